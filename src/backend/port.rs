//! Agent ports that are Unix sockets of ours: one stream each, claimed by a lock.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Purpose;
use crate::host::channel::Channel;
use crate::host::socket;
use crate::model::layout::{CONTROL_PORT, SESSION_PORTS};
use crate::model::{Kind, Refusal, VmPaths};

/// How long a VMM may take to accept a client where others already wait. QEMU lets one wait behind
/// the one it serves, and takes a few milliseconds to notice that either is gone.
const ACCEPTANCE: Duration = Duration::from_secs(2);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

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
///
/// Errors: `Busy` when every port is claimed, `Agent` when the VMM accepts nobody.
pub fn dial(paths: &VmPaths, purpose: Purpose) -> Result<Dialled> {
    let candidates = match purpose {
        Purpose::Control => CONTROL_PORT..=CONTROL_PORT,
        Purpose::Session => 1..=SESSION_PORTS,
    };
    let deadline = Instant::now() + ACCEPTANCE;
    loop {
        let mut crowded = false;
        for number in candidates.clone() {
            let Some((claim, dirty)) = claim(paths, number)? else { continue };
            if let Some(stream) = socket::connect(&paths.port(number))? {
                return Ok(Dialled { channel: Channel { stream, claim: Some(claim) }, dirty });
            }
            // Clients that have given up wait there to be noticed by the VMM.
            crowded = true;
            if !dirty {
                let _ = claim.set_len(0);
            }
        }
        if !crowded {
            return Err(all_claimed(purpose).into());
        }
        if Instant::now() >= deadline {
            return Err(Refusal::new(Kind::Agent, "the VMM accepts no connections")
                .hint("it hangs or is stopped; 'mayfly stop' and 'mayfly rm' end it all the same")
                .into());
        }
        std::thread::sleep(PAUSE);
    }
}

fn all_claimed(purpose: Purpose) -> Refusal {
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

/// Locks a port's claim file. It holds one byte while the port is in use, which stays there when the
/// user is killed: that is how the next one knows.
fn claim(paths: &VmPaths, number: u32) -> Result<Option<(File, bool)>> {
    let path = paths.port_claim(number);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    let dirty = file.metadata().context("cannot look at a claim")?.len() > 0;
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(b"x"))
        .context("cannot claim a port")?;
    Ok(Some((file, dirty)))
}

/// Gives a port back. A clean one carries nothing of ours any more, and is marked so.
pub fn hang_up(clean: bool, channel: Channel) {
    if let Some(claim) = channel.claim.filter(|_| clean) {
        // If this fails, the next user clears the stream for nothing.
        let _ = claim.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, listen};

    use super::*;

    #[test]
    fn a_vmm_that_accepts_nobody_is_given_up_on() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0123456789ab".parse().unwrap();
        let paths = VmPaths::new(dir.path(), dir.path(), &id);
        std::fs::create_dir(&paths.run).unwrap();
        let listener = socket::listen(&paths.port(CONTROL_PORT)).unwrap();
        // As QEMU does with a socket it is given.
        listen(&listener, Backlog::new(1).unwrap()).unwrap();

        let mut abandoned = 0;
        let refused = loop {
            match dial(&paths, Purpose::Control) {
                Ok(dialled) => {
                    hang_up(true, dialled.channel);
                    abandoned += 1;
                }
                Err(error) => break error,
            }
            assert!(abandoned < 10);
        };
        assert_eq!(refused.downcast_ref::<Refusal>().unwrap().kind, Kind::Agent);

        let _ = listener.accept().unwrap();
        assert!(!dial(&paths, Purpose::Control).unwrap().dirty);
    }
}
