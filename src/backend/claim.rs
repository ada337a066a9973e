//! Which of a VM's lines to its agent is whose: one command a line, claimed by a lock.

use anyhow::Result;

use super::Purpose;
use crate::host::channel::Channel;
use crate::host::directory;
use crate::host::lock::Lock;
use crate::model::layout::{CONTROL_PORT, SESSION_PORTS};
use crate::model::{Kind, Refusal, VmPaths};

/// A connected stream, and what is known of the one before it.
#[derive(Debug)]
pub struct Dialled {
    pub channel: Channel,
    /// The last user of this line ended in the middle, so bytes of its may still be under way.
    pub dirty: bool,
}

/// A line that is ours.
#[derive(Debug)]
pub struct Claim {
    pub number: u32,
    pub lock: Lock,
    /// The last to claim it ended in the middle.
    pub dirty: bool,
}

/// Claims the lines for this purpose that are free, one at a time.
///
/// Errors: `Host` when the place of the claims is gone, or somebody else could have put another there.
pub fn free(paths: &VmPaths, purpose: Purpose) -> Result<impl Iterator<Item = Result<Claim>>> {
    if !directory::is_private(&paths.run)? {
        let message = format!("the VM's sockets are not there any more ({})", paths.run.display());
        return Err(Refusal::new(Kind::Host, message)
            .hint("MAYFLY_RUNTIME_DIR and XDG_RUNTIME_DIR must be what they were at its start")
            .into());
    }
    let candidates = match purpose {
        Purpose::Control => CONTROL_PORT..=CONTROL_PORT,
        Purpose::Session => 1..=SESSION_PORTS,
    };
    Ok(candidates.filter_map(|number| {
        let claimed = Lock::try_claim(&paths.port_claim(number)).transpose()?;
        Some(claimed.map(|(lock, dirty)| Claim { number, lock, dirty }))
    }))
}

/// The refusal where none is free.
pub fn none_free(purpose: Purpose) -> Refusal {
    match purpose {
        Purpose::Control => {
            Refusal::new(Kind::Busy, "another command is talking to the VM's agent")
        }
        Purpose::Session => {
            Refusal::new(Kind::Busy, format!("{SESSION_PORTS} commands already run in this VM"))
                .hint("wait for one to end, or use another VM")
        }
    }
}

/// Gives a line back. A clean one carries nothing of ours any more, and is marked so.
pub fn hang_up(clean: bool, channel: Channel) {
    if let Some(claim) = channel.claim.filter(|_| clean) {
        claim.leave_clean();
    }
}
