//! The lines to a VM's agent: each carries one command and is claimed by a lock.

use anyhow::Result;

use super::interface::StreamPurpose;
use crate::host::directory;
use crate::host::lock::FileLock;
use crate::model::layout::{CONTROL_PORT, SESSION_PORTS};
use crate::model::{Refusal, RefusalKind, VmPaths};

/// A line that this process has claimed.
#[derive(Debug)]
pub struct LineClaim {
    pub number: u32,
    pub lock: FileLock,
    /// The last command on this line was interrupted.
    pub dirty: bool,
}

/// Claims the free lines for this purpose, one at a time.
///
/// # Errors
/// `Host` if the directory of the locks is gone, or could have been replaced by another user.
pub fn free(
    paths: &VmPaths,
    purpose: StreamPurpose,
) -> Result<impl Iterator<Item = Result<LineClaim>>> {
    if !directory::is_private(&paths.run)? {
        let message = format!("the VM's sockets are gone ({})", paths.run.display());
        return Err(Refusal::new(RefusalKind::Host, message)
            .hint("MAYFLY_RUNTIME_DIR and XDG_RUNTIME_DIR must be the same as when it was started")
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

/// The refusal if no line is free.
pub fn none_free(purpose: StreamPurpose) -> Refusal {
    match purpose {
        StreamPurpose::Control => {
            Refusal::new(RefusalKind::Busy, "another command is talking to the VM's agent")
        }
        StreamPurpose::Session => {
            let message = format!("{SESSION_PORTS} commands already run in this VM");
            Refusal::new(RefusalKind::Busy, message).hint("wait for one to end, or use another VM")
        }
    }
}
