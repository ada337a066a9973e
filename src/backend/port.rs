//! Agent ports that are Unix sockets of ours: one stream each, claimed by a lock.

use std::os::fd::OwnedFd;

use anyhow::Result;

use super::Purpose;
use crate::host::channel::Channel;
use crate::host::lock::Lock;
use crate::host::socket;
use crate::model::layout::{CONTROL_PORT, SESSION_PORTS};
use crate::model::{Kind, Refusal, VmPaths};

/// A connected stream, and what is known of the one before it.
#[derive(Debug)]
pub struct Dialled {
    pub channel: Channel,
    /// The last user of this port ended in the middle, so bytes of its may still be under way.
    pub dirty: bool,
}

/// Opens the listening sockets of a VM, port 0 first.
pub fn listen(paths: &VmPaths) -> Result<Vec<OwnedFd>> {
    (CONTROL_PORT..=SESSION_PORTS)
        .map(|number| Ok(OwnedFd::from(socket::listen(&paths.port(number))?)))
        .collect()
}

/// Claims a free port and connects to it.
pub fn dial(paths: &VmPaths, purpose: Purpose) -> Result<Dialled> {
    let candidates = match purpose {
        Purpose::Control => CONTROL_PORT..=CONTROL_PORT,
        Purpose::Session => 1..=SESSION_PORTS,
    };
    for number in candidates {
        let Some((claim, dirty)) = Lock::try_claim(&paths.port_claim(number))? else { continue };
        let stream = socket::connect(&paths.port(number))?;
        return Ok(Dialled { channel: Channel { stream, claim: Some(claim) }, dirty });
    }
    Err(match purpose {
        Purpose::Control => {
            Refusal::new(Kind::Busy, "another command is talking to the VM's agent")
        }
        Purpose::Session => {
            Refusal::new(Kind::Busy, format!("{SESSION_PORTS} commands already run in this VM"))
                .hint("wait for one to end, or use another VM")
        }
    }
    .into())
}

/// Gives a port back. A clean one carries nothing of ours any more, and is marked so.
pub fn hang_up(clean: bool, channel: Channel) {
    if let Some(claim) = channel.claim.filter(|_| clean) {
        claim.leave_clean();
    }
}
