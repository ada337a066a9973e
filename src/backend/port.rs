//! Agent ports that are Unix sockets of the VMM: one stream each, claimed by a lock.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::claim::{self, LineClaim};
use super::interface::{DialedStream, StreamPurpose};
use crate::host::agent_channel::AgentChannel;
use crate::host::socket;
use crate::host::wait::WaitLimit;
use crate::model::layout::{CONTROL_PORT, SESSION_PORTS};
use crate::model::{Refusal, RefusalKind, VmPaths};

/// How long a VMM may take to accept a client while others wait. QEMU serves one client, lets one more
/// wait, and needs a few milliseconds to notice that either is gone.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Opens the listening sockets of a VM, the control port first.
pub fn listen(paths: &VmPaths) -> Result<Vec<OwnedFd>> {
    (CONTROL_PORT..=SESSION_PORTS)
        .map(|number| Ok(OwnedFd::from(socket::listen(&paths.port(number))?)))
        .collect()
}

/// Claims a free port and connects to it.
///
/// # Errors
/// `Busy` if every port is claimed, `Agent` if the VMM accepts no connection, and the errors of
/// [`claim::free`].
pub fn dial(
    paths: &VmPaths,
    purpose: StreamPurpose,
    wait: &mut WaitLimit<'_>,
) -> Result<DialedStream> {
    let deadline = Instant::now() + ACCEPT_TIMEOUT;
    loop {
        let mut crowded = false;
        for claimed in claim::free(paths, purpose)? {
            let LineClaim { number, lock, dirty } = claimed?;
            if let Some(stream) = socket::connect(&paths.port(number))? {
                return Ok(DialedStream {
                    channel: AgentChannel { stream, claim: Some(lock) },
                    dirty,
                });
            }
            // Clients that have gone away wait there until the VMM notices.
            crowded = true;
            if !dirty {
                lock.leave_clean();
            }
        }
        if !crowded {
            return Err(claim::none_free(purpose).into());
        }
        if Instant::now() >= deadline {
            return Err(Refusal::new(RefusalKind::Agent, "the VMM accepts no connections")
                .hint("it hangs or is suspended; 'mayfly stop' and 'mayfly rm' still end it")
                .into());
        }
        wait.pause(RETRY_INTERVAL, "its VMM to accept a connection")?;
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, listen};

    use super::*;
    use crate::host::directory;

    #[test]
    fn a_vmm_that_accepts_no_connection_is_given_up_on() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0123456789ab".parse().unwrap();
        let paths = VmPaths::new(dir.path(), dir.path(), &id);
        directory::create_new(&paths.run).unwrap();
        let listener = socket::listen(&paths.port(CONTROL_PORT)).unwrap();
        // As QEMU does with an inherited socket.
        listen(&listener, Backlog::new(1).unwrap()).unwrap();

        let mut wait = WaitLimit::within(ACCEPT_TIMEOUT * 5);
        let mut abandoned = 0;
        let refused = loop {
            match dial(&paths, StreamPurpose::Control, &mut wait) {
                Ok(dialled) => {
                    dialled.channel.claim.unwrap().leave_clean();
                    abandoned += 1;
                }
                Err(error) => break error,
            }
            assert!(abandoned < 10);
        };
        assert_eq!(Refusal::find(&refused).unwrap().kind, RefusalKind::Agent);

        let _ = listener.accept().unwrap();
        assert!(!dial(&paths, StreamPurpose::Control, &mut wait).unwrap().dirty);
    }
}
