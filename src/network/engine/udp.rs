//! The guest's datagrams.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use smoltcp::wire::UdpPacket;

use super::dns_desk::{DnsClient, NameWaiter};
use super::judge::Destination;
use super::key::{EngineKey, FlowKey};
use super::state::{NetworkEngine, PublishedEnd};
use super::udp_table::{UdpEntry, UdpSide};
use crate::network::addresses::{GUEST_V4, guest_for, is_gateway};
use crate::network::denials::AttemptKind;
use crate::network::packet::{IpPacket, Unreachable, send_datagram};
use crate::network::sockets;

/// How long a stream lives after its last datagram, and one to a server that answers once.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_QUESTION: Duration = Duration::from_secs(10);
/// Ports of such servers: DNS and NTP.
const QUESTIONS: [u16; 2] = [53, 123];
/// How many datagrams are received at once.
const RECEIVES: usize = 32;
/// The longest packet that waits for an address, in bytes. Questions and first messages are shorter.
const MOST_KEPT: usize = 2048;
/// The largest datagram.
const LARGEST: usize = 65_536;

impl NetworkEngine {
    pub(super) fn udp_packet(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let Ok(datagram) = UdpPacket::new_checked(packet.payload) else { return };
        let far = SocketAddr::new(packet.destination, datagram.dst_port());
        let key = FlowKey { far, guest_port: datagram.src_port() };
        if !self.udp.ids.contains_key(&key) {
            if far.port() == 53 && is_gateway(far.ip()) {
                let client = DnsClient::Datagram(key);
                return self.dns_query(client, datagram.payload(), now);
            }
            if far.ip() == IpAddr::V4(Ipv4Addr::BROADCAST) {
                // Such as the question for a DHCP server.
                return;
            }
            let destination = self.judge(AttemptKind::Udp, far, packet.quoted(), now);
            let Some(to) = destination.and_then(|to| self.udp_destination(to, packet, far, now))
            else {
                return;
            };
            self.udp_open(key, to, packet.quoted(), now);
        }
        let id = self.udp.ids.get(&key);
        let Some(entry) = id.and_then(|id| self.udp.entries.get_mut(id)) else { return };
        entry.used = now;
        // Datagrams may be lost; errors of earlier ones are reported when they are received.
        let _ = match &entry.side {
            UdpSide::Connected(socket) => socket.send(datagram.payload()),
            UdpSide::Published { index, client } => match &self.published[*index] {
                PublishedEnd::Datagrams(socket, _) => socket.send_to(datagram.payload(), client),
                PublishedEnd::Listener(..) => Ok(0),
            },
        };
    }

    /// The address that datagrams for a destination go to now; `None` if there is none, or a name must be looked up
    /// first. A short packet waits for that; the guest sends others again.
    fn udp_destination(
        &mut self,
        to: Destination,
        packet: &IpPacket<'_>,
        far: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let name = match to {
            Destination::Address(to) => return Some(to),
            Destination::Host(port) => {
                return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
            }
            Destination::Name(name) => name,
        };
        let Some(addresses) = self.names.resolved(&name, now) else {
            if packet.whole.len() <= MOST_KEPT {
                self.resolve(&name, NameWaiter::Packet(packet.whole.to_vec()), now);
            } else {
                self.resolve(&name, NameWaiter::Nothing, now);
            }
            return None;
        };
        let all: Vec<SocketAddr> =
            addresses.iter().map(|&address| SocketAddr::new(address, far.port())).collect();
        let has_some = !all.is_empty();
        let found = all.into_iter().find(|&to| self.policy.to_address_of_name(to).is_ok());
        if found.is_none() && has_some {
            self.deny_name(AttemptKind::Udp, (&name, far.port()), packet.quoted(), now);
        }
        found
    }

    fn udp_open(&mut self, key: FlowKey, to: SocketAddr, quoted: &[u8], now: Instant) {
        let Ok(socket) = sockets::datagrams_to(to) else {
            return self.unreachable(Unreachable::Network, quoted);
        };
        let id = self.new_id();
        if self.watch(&socket, EngineKey::Udp(id), EventFlags::IN).is_ok() {
            let idle = if QUESTIONS.contains(&to.port()) { IDLE_QUESTION } else { IDLE };
            let (side, quoted) = (UdpSide::Connected(socket), quoted.to_vec());
            self.udp.insert(id, UdpEntry { key, side, quoted, used: now, idle });
            self.timers.set(EngineKey::Udp(id), now + idle);
        }
    }

    /// Receives answers. Those for which the line has no room are lost.
    pub(super) fn udp_event(&mut self, id: u64, now: Instant) {
        let mut buffer = vec![0; LARGEST];
        for _ in 0..RECEIVES {
            let Some(entry) = self.udp.entries.get_mut(&id) else { return };
            let UdpSide::Connected(socket) = &entry.side else { return };
            match socket.recv(&mut buffer) {
                Ok(count) => {
                    entry.used = now;
                    let FlowKey { far, guest_port } = entry.key;
                    let to = SocketAddr::new(guest_for(far.ip()), guest_port);
                    send_datagram(&mut self.out, far, to, &buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    let reason = match error.kind() {
                        ErrorKind::ConnectionRefused => Unreachable::Port,
                        ErrorKind::NetworkUnreachable => Unreachable::Network,
                        _ => Unreachable::Host,
                    };
                    let quoted = entry.quoted.clone();
                    self.unreachable(reason, &quoted);
                }
            }
        }
    }

    /// Takes datagrams that came to a published port to the guest.
    pub(super) fn udp_published(&mut self, index: usize, now: Instant) {
        let mut buffer = vec![0; LARGEST];
        for _ in 0..RECEIVES {
            let PublishedEnd::Datagrams(socket, guest_port) = &self.published[index] else {
                return;
            };
            let guest_port = *guest_port;
            let (count, client) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Of a datagram to a client that is gone.
                Err(_) => continue,
            };
            let id = match self.udp.clients.get(&(index, client)) {
                Some(&id) => id,
                None => self.udp_client(index, client, guest_port, now),
            };
            let Some(entry) = self.udp.entries.get_mut(&id) else { continue };
            entry.used = now;
            let to = SocketAddr::new(GUEST_V4.into(), guest_port);
            send_datagram(&mut self.out, entry.key.far, to, &buffer[..count]);
        }
    }

    fn udp_client(
        &mut self,
        index: usize,
        client: SocketAddr,
        guest_port: u16,
        now: Instant,
    ) -> u64 {
        let (id, key) = (self.new_id(), self.udp.gateway_key(guest_port));
        let side = UdpSide::Published { index, client };
        self.udp.insert(id, UdpEntry { key, side, quoted: Vec::new(), used: now, idle: IDLE });
        self.udp.clients.insert((index, client), id);
        self.timers.set(EngineKey::Udp(id), now + IDLE);
        id
    }

    pub(super) fn udp_due(&mut self, id: u64, now: Instant) {
        let Some(entry) = self.udp.entries.get(&id) else { return };
        let end = entry.used + entry.idle;
        if end > now {
            self.timers.set(EngineKey::Udp(id), end);
        } else {
            self.udp.remove(id);
        }
    }
}
