//! What a VMM answers. It may be one that its guest has taken over.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::allocation::bounded;
use super::check_error;
use crate::backend::firecracker::api::ApiAnswer;
use crate::backend::firecracker::vsock;
use crate::backend::qemu::monitor::QmpClient;
use crate::host::wait::WaitLimit;

/// A socket on which the other end has said all this and will say no more. The other end stays open, so that
/// requests are no errors.
fn said(input: &[u8]) -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_nonblocking(true).expect("a socket");
    // What does not fit into the socket's buffer is left out.
    let _ = theirs.write(input);
    theirs.shutdown(std::net::Shutdown::Write).expect("a socket");
    (ours, theirs)
}

/// QEMU's greeting and its answers to all commands of a clone.
pub fn qmp(input: &[u8]) {
    let (socket, _theirs) = said(input);
    let mut wait = WaitLimit::within(Duration::from_secs(20));
    let null = File::open("/dev/null").expect("a null device");
    let loaded = bounded((4 << 20) + 64 * input.len(), || {
        QmpClient::open(Some(&socket), &mut wait).and_then(|mut qemu| {
            qemu.keep_memory_apart()?;
            qemu.load(null)
        })
    });
    if let Err(error) = loaded {
        check_error(error);
    }
}

/// Answers of Firecracker's API: a longer part of the same bytes never becomes another answer.
pub fn firecracker_api(input: &[u8]) {
    let parse = |bytes| bounded((1 << 20) + 4 * input.len(), || ApiAnswer::parse(bytes));
    let whole = parse(input);
    if let Ok(Some(answer)) = &whole {
        assert!(answer.body.len() <= input.len());
        assert!(answer.status < 1000);
    }
    for cut in [input.len() / 2, input.len().saturating_sub(1)] {
        match (parse(&input[..cut]), &whole) {
            (Ok(Some(early)), whole) => assert_eq!(whole.as_ref().ok(), Some(&Some(early))),
            (Err(error), whole) => {
                check_error(error);
                assert!(whole.is_err(), "an invalid answer became valid");
            }
            (Ok(None), _) => {}
        }
    }
}

/// The answer to `CONNECT` on Firecracker's vsock.
pub fn vsock_handshake(input: &[u8]) {
    let (socket, _theirs) = said(input);
    let mut wait = WaitLimit::within(Duration::from_secs(20));
    match bounded(1 << 20, || vsock::ask(socket, 1025, &mut wait)) {
        Ok(Some(_)) => assert!(input.starts_with(b"OK ")),
        Ok(None) => {}
        Err(error) => check_error(error),
    }
}
