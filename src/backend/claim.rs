//! Which of a VM's lines to its agent is whose: one command a line, claimed by a lock.

use anyhow::Result;

use super::interface::StreamPurpose;
use crate::host::agent_channel::AgentChannel;
use crate::host::directory;
use crate::host::lock::FileLock;
use crate::model::layout::{CONTROL_PORT, SESSION_PORTS};
use crate::model::{Refusal, RefusalKind, VmPaths};

/// A line that is ours.
#[derive(Debug)]
pub struct LineClaim {
    pub number: u32,
    pub lock: FileLock,
    /// The last to claim it ended in the middle.
    pub dirty: bool,
}

/// Claims the lines for this purpose that are free, one at a time.
///
/// Errors: `Host` when the place of the claims is gone, or somebody else could have put another there.
pub fn free(
    paths: &VmPaths,
    purpose: StreamPurpose,
) -> Result<impl Iterator<Item = Result<LineClaim>>> {
    if !directory::is_private(&paths.run)? {
        let message = format!("the VM's sockets are not there any more ({})", paths.run.display());
        return Err(Refusal::new(RefusalKind::Host, message)
            .hint("MAYFLY_RUNTIME_DIR and XDG_RUNTIME_DIR must be what they were at its start")
            .into());
    }
    let candidates = match purpose {
        StreamPurpose::Control => CONTROL_PORT..=CONTROL_PORT,
        StreamPurpose::Session => 1..=SESSION_PORTS,
    };
    Ok(candidates.filter_map(|number| {
        let claimed = FileLock::try_claim(&paths.port_claim(number)).transpose()?;
        Some(claimed.map(|(lock, dirty)| LineClaim { number, lock, dirty }))
    }))
}

/// The refusal where none is free.
pub fn none_free(purpose: StreamPurpose) -> Refusal {
    match purpose {
        StreamPurpose::Control => {
            Refusal::new(RefusalKind::Busy, "another command is talking to the VM's agent")
        }
        StreamPurpose::Session => Refusal::new(
            RefusalKind::Busy,
            format!("{SESSION_PORTS} commands already run in this VM"),
        )
        .hint("wait for one to end, or use another VM"),
    }
}

/// Gives a line back. A clean one carries nothing of ours any more, and is marked so.
pub fn hang_up(clean: bool, channel: AgentChannel) {
    if let Some(claim) = channel.claim.filter(|_| clean) {
        claim.leave_clean();
    }
}
