//! Errors about connections, which the guest is told more than once.
//!
//! Linux drops an ICMP error that comes while the socket is still in use by `connect`, and learns what is wrong only
//! when it sends its SYN again, after a second. An answer of this helper often comes that early. A reset would never
//! be dropped, but would say that the connection was refused. Errors that are told again cost nothing: Linux compares
//! the sequence number that they repeat, so they end no other connection.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smoltcp::wire::IpProtocol;

use super::key::EngineKey;
use super::state::NetworkEngine;
use crate::network::packet::{Unreachable, quoted_protocol, send_unreachable};

/// How long after the last time an error is told again. `connect` takes less than a millisecond, but the guest's CPU may
/// be waiting for one of the host.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];
/// The most errors that wait for that. Others are told once.
const MOST: usize = 256;

/// An error that will be told again.
struct Refusal {
    reason: Unreachable,
    quoted: Vec<u8>,
    repeats: usize,
}

/// All errors that will be told again.
#[derive(Default)]
pub(super) struct Refusals(HashMap<u64, Refusal>);

impl NetworkEngine {
    /// Tells the guest that the packet that begins with `quoted` did not arrive.
    pub(super) fn unreachable(&mut self, reason: Unreachable, quoted: &[u8]) {
        if self.out.has_room() {
            send_unreachable(&mut self.out, reason, quoted);
        }
        // Linux takes errors about datagrams at any time.
        if quoted_protocol(quoted) == Some(IpProtocol::Tcp) && self.refusals.0.len() < MOST {
            let id = self.new_id();
            let refusal = Refusal { reason, quoted: quoted.to_vec(), repeats: 0 };
            self.refusals.0.insert(id, refusal);
            self.timers.set(EngineKey::Refusal(id), Instant::now() + PAUSES[0]);
        }
    }

    pub(super) fn refusal_due(&mut self, id: u64, now: Instant) {
        let Some(refusal) = self.refusals.0.get_mut(&id) else { return };
        if self.out.has_room() {
            send_unreachable(&mut self.out, refusal.reason, &refusal.quoted);
        }
        refusal.repeats += 1;
        match PAUSES.get(refusal.repeats) {
            Some(pause) => self.timers.set(EngineKey::Refusal(id), now + *pause),
            None => drop(self.refusals.0.remove(&id)),
        }
    }
}
