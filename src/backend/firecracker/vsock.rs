//! Reaching an agent through Firecracker's vsock: connect to a Unix socket, name the guest's port, and
//! read an `OK` once the guest has accepted (`docs/vsock.md` of Firecracker).
//!
//! A connection that comes before the guest has a driver waits in the VMM. One that comes when there is
//! a driver and nobody listens is closed without an answer; so this tries again for as long as the
//! caller waits.
//!
//! A VM that goes on from a frozen one is first told by its VMM that all connections are gone. Firecracker
//! before 1.16 lets a new one overtake that news, which then ends it as well
//! (<https://github.com/firecracker-microvm/firecracker/pull/5882>); so somebody must [`knock`] first.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::sys::poll::PollFlags;
use anyhow::Result;
use std::os::fd::AsFd;

use crate::host::socket;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};

/// Between two tries. They wait for the VMM to make its socket; then one is held until the guest has a
/// driver, which it loads when its agent listens. So this is short against a boot, not against a tick.
const PAUSE: Duration = Duration::from_millis(20);

/// A port that is the guest's root's to listen at, and at which the agent does not.
const NOBODY: u32 = 1;

/// `OK ` and a 32-bit number.
const LONGEST_ANSWER: usize = 14;

/// What an error says was waited for.
const WHAT: &str = "its agent to listen";

/// A stream to this port of the guest. `owner` is the user the VMM runs as.
pub fn connect(path: &Path, owner: u32, port: u32, wait: &mut WaitLimit<'_>) -> Result<UnixStream> {
    loop {
        if let Some(stream) = socket::connect_to(path, owner)?
            && let Some(stream) = ask(stream, port, wait)?
        {
            return Ok(stream);
        }
        wait.pause(PAUSE, WHAT)?;
    }
}

/// Goes to a port where nobody listens. The guest's kernel has heard all that came before when it has
/// refused: it looks at all queues of the device at once, and does the work in that order.
pub fn knock(path: &Path, owner: u32, wait: &mut WaitLimit<'_>) -> Result<()> {
    loop {
        if let Some(stream) = socket::connect_to(path, owner)? {
            return ask(stream, NOBODY, wait).map(drop);
        }
        wait.pause(PAUSE, WHAT)?;
    }
}

/// Asks for a port; `None` if nobody listens there yet.
fn ask(mut stream: UnixStream, port: u32, wait: &mut WaitLimit<'_>) -> Result<Option<UnixStream>> {
    stream.set_nonblocking(true)?;
    match stream.write_all(format!("CONNECT {port}\n").as_bytes()) {
        Ok(()) => {}
        Err(error) if is_hung_up(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut answer = Vec::with_capacity(LONGEST_ANSWER);
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if answer.len() == LONGEST_ANSWER => return Err(nonsense()),
            Ok(_) => answer.extend(byte),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait.ready(stream.as_fd(), PollFlags::POLLIN, None, WHAT)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_hung_up(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    let accepted = answer
        .strip_prefix(b"OK ")
        .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit));
    if !accepted {
        return Err(nonsense());
    }
    stream.set_nonblocking(false)?;
    Ok(Some(stream))
}

fn is_hung_up(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn nonsense() -> anyhow::Error {
    Refusal::new(RefusalKind::Agent, "the VMM answers nonsense at its vsock socket").into()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread::spawn;

    use nix::unistd::geteuid;

    use super::*;

    /// Something that answers like a VMM: to each client in turn what is written here.
    fn connect_to(answers: &'static [&'static [u8]]) -> Result<String> {
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        let connected =
            with_vmm(answers, 1025, |path| connect(path, geteuid().as_raw(), 1025, &mut wait));
        let mut rest = String::new();
        connected?.read_to_string(&mut rest).unwrap();
        Ok(rest)
    }

    /// What comes of doing something with something like a VMM, which is asked for that port.
    fn with_vmm<T>(
        answers: &'static [&'static [u8]],
        port: u32,
        act: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let vmm = spawn(move || {
            for answer in answers {
                let (mut client, _) = listener.accept().unwrap();
                let mut asked = String::new();
                BufReader::new(&client).read_line(&mut asked).unwrap();
                assert_eq!(asked, format!("CONNECT {port}\n"));
                client.write_all(answer).unwrap();
            }
        });
        let done = act(&path);
        vmm.join().unwrap();
        done
    }

    #[test]
    fn a_knock_is_heard_whether_it_is_answered_or_not() {
        let either: [&[&[u8]]; 2] = [&[b""], &[b"OK 1073741824\n"]];
        for answers in either {
            let mut wait = WaitLimit::within(Duration::from_secs(20));
            with_vmm(answers, NOBODY, |path| knock(path, geteuid().as_raw(), &mut wait)).unwrap();
        }
        let mut wait = WaitLimit::within(Duration::from_millis(30));
        assert!(knock(Path::new("/nowhere/v.sock"), 0, &mut wait).is_err());
    }

    #[test]
    fn a_guest_that_does_not_listen_yet_is_asked_again() {
        assert_eq!(connect_to(&[b"", b"", b"OK 1073741824\nhello"]).unwrap(), "hello");
    }

    #[test]
    fn nonsense_is_refused() {
        let nonsense: [&[&[u8]]; 5] =
            [&[b"KO 1\n"], &[b"OK \n"], &[b"OK x\n"], &[b"\n"], &[b"OK 11111111111111111111\n"]];
        for answers in nonsense {
            let error = connect_to(answers).unwrap_err();
            assert_eq!(Refusal::find(&error).unwrap().kind, RefusalKind::Agent);
        }
    }

    #[test]
    fn what_never_answers_is_given_up_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let mut wait = WaitLimit::within(Duration::from_millis(30));
        assert!(connect(&path, geteuid().as_raw(), 1025, &mut wait).is_err());
        let _listener = UnixListener::bind(&path).unwrap();
        let mut wait = WaitLimit::within(Duration::from_millis(30));
        assert!(connect(&path, geteuid().as_raw(), 1025, &mut wait).is_err());
    }
}
