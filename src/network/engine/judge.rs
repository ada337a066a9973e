//! Where a packet of the guest goes, or why it does not.

use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::wire::IpProtocol;

use super::key::EngineKey;
use super::state::NetworkEngine;
use crate::model::DnsName;
use crate::network::addresses::is_gateway;
use crate::network::denials::{AttemptKind, DeniedAttempt};
use crate::network::packet::{IpPacket, Unreachable, send_unreachable};
use crate::network::policy::DenyReason;
use crate::network::special::{SpecialRange, is_v4_in_disguise};

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Address(SocketAddr),
    /// A port of the host's loopback addresses.
    Host(u16),
    Name(DnsName),
}

impl NetworkEngine {
    /// The destination of a packet, or `None` if it is denied: then the guest is told, and it is in the log.
    pub(super) fn judge(
        &mut self,
        kind: AttemptKind,
        to: SocketAddr,
        quoted: &[u8],
        now: Instant,
    ) -> Option<Destination> {
        let name = self.names.name_at(to.ip(), now);
        let (verdict, text) = match &name {
            _ if is_gateway(to.ip()) => {
                let host = Destination::Host(to.port());
                (self.policy.to_host(to.port()).map(|()| host), format!("host:{}", to.port()))
            }
            Some(name) => {
                let verdict = self.policy.to_name(name, to.port());
                let destination = Destination::Name(name.clone());
                (verdict.map(|()| destination), format!("{name}:{}", to.port()))
            }
            None => {
                let verdict = self.policy.to_address(to);
                (verdict.map(|()| Destination::Address(to)), to.to_string())
            }
        };
        match verdict {
            Ok(destination) => Some(destination),
            Err(DenyReason::Special(SpecialRange::Multicast)) => {
                // Systems greet their neighbours all the time.
                None
            }
            Err(reason) => {
                let allow = (!is_v4_in_disguise(to.ip())).then(|| text.clone());
                self.denials.deny(DeniedAttempt { kind, to: text, reason, allow }, now);
                self.unreachable(Unreachable::Prohibited, quoted);
                None
            }
        }
    }

    /// Reports that all addresses of a name are denied.
    pub(super) fn deny_name(
        &mut self,
        kind: AttemptKind,
        (name, port): (&DnsName, u16),
        quoted: &[u8],
        now: Instant,
    ) {
        let reason = DenyReason::NameOfDenied;
        let to = format!("{name}:{port}");
        let attempt = DeniedAttempt { kind, to, reason, allow: None };
        self.denials.deny(attempt, now);
        self.unreachable(Unreachable::Prohibited, quoted);
    }

    /// Tells the guest that the packet that begins with `quoted` did not arrive.
    pub(super) fn unreachable(&mut self, reason: Unreachable, quoted: &[u8]) {
        if self.out.has_room() {
            send_unreachable(&mut self.out, reason, quoted);
        }
        let id = self.new_id();
        if let Some(pause) = self.repeated_errors.add(id, reason, quoted) {
            self.timers.set(EngineKey::RepeatedError(id), Instant::now() + pause);
        }
    }

    pub(super) fn repeated_error_due(&mut self, id: u64, now: Instant) {
        let Some((error, pause)) = self.repeated_errors.next(id) else { return };
        if self.out.has_room() {
            send_unreachable(&mut self.out, error.reason, &error.quoted);
        }
        if let Some(pause) = pause {
            self.timers.set(EngineKey::RepeatedError(id), now + pause);
        }
    }

    /// Only the gateway answers echoes.
    pub(super) fn refuse_echo(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let request = if packet.protocol == IpProtocol::Icmp { 8 } else { 128 };
        if packet.payload.first() == Some(&request) {
            let (kind, reason) = (AttemptKind::Icmp, DenyReason::NotAllowed);
            let to = packet.destination.to_string();
            self.denials.deny(DeniedAttempt { kind, to, reason, allow: None }, now);
            self.unreachable(Unreachable::Prohibited, packet.quoted());
        }
    }
}
