//! Reaching an agent through Firecracker's vsock: connect to a Unix socket, send the guest's port, and
//! read `OK` once the guest has accepted (`docs/vsock.md` of Firecracker).
//!
//! A connection that arrives before the guest has a driver waits in the VMM. One that arrives when
//! there is a driver but no listener is closed without an answer, so connecting is retried for as long
//! as the caller waits.
//!
//! The VMM first tells a resumed VM that all connections are gone. Before version 1.16, Firecracker
//! lets a new connection overtake that message, which then ends the new connection too
//! (<https://github.com/firecracker-microvm/firecracker/pull/5882>). So call [`knock`] first.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::host::socket;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};
use crate::sys::poll::PollFlags;

/// The pause between two tries, which first wait for the VMM's socket, and then for the agent to
/// listen. Short compared with a boot, but not with a timer tick.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A privileged port of the guest on which nothing listens.
const NO_LISTENER: u32 = 1;

/// The longest answer in bytes: `OK ` and a 32-bit number.
const MAX_ANSWER: usize = 14;

/// What was waited for, for errors.
const WAITING_FOR: &str = "its agent to listen";

/// Connects to a port of the guest. `owner` is the user the VMM runs as.
pub fn connect(path: &Path, owner: u32, port: u32, wait: &mut WaitLimit<'_>) -> Result<UnixStream> {
    loop {
        if let Some(stream) = socket::connect_to(path, owner)?
            && let Some(stream) = ask(stream, port, wait)?
        {
            return Ok(stream);
        }
        wait.pause(RETRY_INTERVAL, WAITING_FOR)?;
    }
}

/// Connects to a port without a listener. When the guest's kernel has refused, it has also processed
/// all earlier messages, because it handles all queues of the device in order.
pub fn knock(path: &Path, owner: u32, wait: &mut WaitLimit<'_>) -> Result<()> {
    loop {
        if let Some(stream) = socket::connect_to(path, owner)? {
            return ask(stream, NO_LISTENER, wait).map(drop);
        }
        wait.pause(RETRY_INTERVAL, WAITING_FOR)?;
    }
}

/// Asks for a port; `None` if nothing listens on it yet.
pub(crate) fn ask(
    mut stream: UnixStream,
    port: u32,
    wait: &mut WaitLimit<'_>,
) -> Result<Option<UnixStream>> {
    stream.set_nonblocking(true)?;
    match stream.write_all(format!("CONNECT {port}\n").as_bytes()) {
        Ok(()) => {}
        Err(error) if is_hung_up(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if answer.len() == MAX_ANSWER => return Err(invalid_answer()),
            Ok(_) => answer.extend(byte),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait.ready(stream.as_fd(), PollFlags::POLLIN, None, WAITING_FOR)?;
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
        return Err(invalid_answer());
    }
    stream.set_nonblocking(false)?;
    Ok(Some(stream))
}

fn is_hung_up(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn invalid_answer() -> anyhow::Error {
    Refusal::new(RefusalKind::Agent, "the VMM sent an invalid answer at its vsock socket").into()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread::spawn;

    use nix::unistd::geteuid;

    use super::*;

    /// Connects to a fake VMM that gives one of these answers to each client.
    fn connect_to(answers: &'static [&'static [u8]]) -> Result<String> {
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        let connected =
            with_vmm(answers, 1025, |path| connect(path, geteuid().as_raw(), 1025, &mut wait));
        let mut rest = String::new();
        connected?.read_to_string(&mut rest).unwrap();
        Ok(rest)
    }

    /// Calls `act` with the socket of a fake VMM that expects requests for `port`.
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
    fn a_knock_succeeds_whether_it_is_answered_or_not() {
        let either: [&[&[u8]]; 2] = [&[b""], &[b"OK 1073741824\n"]];
        for answers in either {
            let mut wait = WaitLimit::within(Duration::from_secs(20));
            with_vmm(answers, NO_LISTENER, |path| knock(path, geteuid().as_raw(), &mut wait))
                .unwrap();
        }
        let mut wait = WaitLimit::within(Duration::from_millis(30));
        assert!(knock(Path::new("/nowhere/v.sock"), 0, &mut wait).is_err());
    }

    #[test]
    fn a_guest_that_does_not_listen_yet_is_asked_again() {
        assert_eq!(connect_to(&[b"", b"", b"OK 1073741824\nhello"]).unwrap(), "hello");
    }

    #[test]
    fn invalid_answers_are_refused() {
        let invalid: [&[&[u8]]; 5] =
            [&[b"KO 1\n"], &[b"OK \n"], &[b"OK x\n"], &[b"\n"], &[b"OK 11111111111111111111\n"]];
        for answers in invalid {
            let error = connect_to(answers).unwrap_err();
            assert_eq!(Refusal::find(&error).unwrap().kind, RefusalKind::Agent);
        }
    }

    #[test]
    fn a_vmm_that_never_answers_is_waited_for_until_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let mut wait = WaitLimit::within(Duration::from_millis(30));
        assert!(connect(&path, geteuid().as_raw(), 1025, &mut wait).is_err());
        let _listener = UnixListener::bind(&path).unwrap();
        let mut wait = WaitLimit::within(Duration::from_millis(30));
        assert!(connect(&path, geteuid().as_raw(), 1025, &mut wait).is_err());
    }
}
