//! Errors about connections, which the guest is told more than once.
//!
//! Linux drops an ICMP error that comes while the socket is still in use by `connect`, and learns what is wrong only
//! when it sends its SYN again, after a second. An answer of this helper often comes that early. A reset would never
//! be dropped, but would say that the connection was refused. Errors that are told again do no harm: Linux compares
//! the sequence number that they repeat, so they end no other connection.

use std::collections::HashMap;
use std::time::Duration;

use smoltcp::wire::IpProtocol;

use crate::network::packet::{Unreachable, quoted_protocol};

/// How long after the last time an error is told again. `connect` takes less than a millisecond, but the guest's CPU may
/// be waiting for one of the host.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];
/// The most errors that wait for that. Others are told once.
const MOST: usize = 256;

/// An error that will be told again.
#[derive(Debug, Clone)]
pub(super) struct RepeatedError {
    pub reason: Unreachable,
    /// The beginning of the packet that it is about.
    pub quoted: Vec<u8>,
    repeats: usize,
}

/// All errors that will be told again.
#[derive(Default)]
pub(super) struct RepeatedErrors(HashMap<u64, RepeatedError>);

impl RepeatedErrors {
    /// Takes note of an error that has been told. Returns how long to wait until it is told again, or `None` if it is
    /// not: Linux takes errors about datagrams at any time.
    pub fn add(&mut self, id: u64, reason: Unreachable, quoted: &[u8]) -> Option<Duration> {
        let is_told_again = quoted_protocol(quoted) == Some(IpProtocol::Tcp) && self.0.len() < MOST;
        is_told_again.then(|| {
            self.0.insert(id, RepeatedError { reason, quoted: quoted.to_vec(), repeats: 0 });
            PAUSES[0]
        })
    }

    /// An error that is to be told now, and how long to wait until it is told once more.
    pub fn next(&mut self, id: u64) -> Option<(RepeatedError, Option<Duration>)> {
        let mut error = self.0.remove(&id)?;
        error.repeats += 1;
        let pause = PAUSES.get(error.repeats).copied();
        if pause.is_some() {
            self.0.insert(id, error.clone());
        }
        Some((error, pause))
    }
}
