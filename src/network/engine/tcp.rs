//! The guest's TCP connections.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use smoltcp::wire::TcpPacket;

use super::dns_desk::{DnsClient, NameWaiter};
use super::judge::Destination;
use super::key::{EngineKey, FlowKey};
use super::state::{NetworkEngine, PublishedEnd};
use super::tcp_table::TcpState;
use crate::network::addresses::{GUEST_V4, is_gateway};
use crate::network::denials::AttemptKind;
use crate::network::dns_stream::DnsStream;
use crate::network::packet::{IpPacket, Unreachable, send_reset};
use crate::network::sockets;
use crate::network::tcp_flow::{FlowState, HostEnd, TcpFlow};
use crate::sys::random;

/// How many connections to a published port are taken at once.
const ACCEPTS: usize = 16;

impl NetworkEngine {
    pub(super) fn tcp_packet(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let Ok(segment) = TcpPacket::new_checked(packet.payload) else { return };
        let far = SocketAddr::new(packet.destination, segment.dst_port());
        let key = FlowKey { far, guest_port: segment.src_port() };
        if let Some(&id) = self.tcp.ids.get(&key) {
            return self.tcp_segment(id, packet, &segment, now);
        }
        if !segment.syn() || segment.ack() {
            return self.tcp_reset(packet);
        }
        if far.port() == 53 && is_gateway(far.ip()) {
            return self.tcp_to_gateway(key, packet, now);
        }
        let Some(destination) = self.judge(AttemptKind::Tcp, far, packet.quoted(), now) else {
            return;
        };
        if self.tcp.is_full() {
            return self.tcp_reset(packet);
        }
        let id = self.new_id();
        let syn = packet.whole.to_vec();
        match destination {
            Destination::Address(to) => self.tcp_connect(id, key, vec![to], syn),
            Destination::Host(port) => {
                let loopback: [IpAddr; 2] =
                    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let others = loopback.map(|address| SocketAddr::new(address, port));
                self.tcp_connect(id, key, others.into(), syn);
            }
            Destination::Name(name) => {
                self.tcp.insert(id, key, TcpState::Resolving { syn, name: name.clone() });
                self.resolve(&name, NameWaiter::Tcp(id), now);
            }
        }
    }

    fn tcp_reset(&mut self, packet: &IpPacket<'_>) {
        if self.out.has_room() {
            send_reset(&mut self.out, packet);
        }
    }

    fn tcp_segment(
        &mut self,
        id: u64,
        packet: &IpPacket<'_>,
        segment: &TcpPacket<&[u8]>,
        now: Instant,
    ) {
        let Some(entry) = self.tcp.entries.get_mut(&id) else { return };
        match &mut entry.state {
            TcpState::Open { flow, .. } => {
                flow.receive(packet.whole, now, &mut self.out);
                self.tcp.make_ready(id);
            }
            _ if segment.rst() => self.tcp_remove(id),
            TcpState::Resolving { syn, .. } | TcpState::Connecting { syn, .. } => {
                // The guest tries again, perhaps with another connection.
                if segment.syn() {
                    *syn = packet.whole.to_vec();
                }
            }
        }
    }

    fn tcp_to_gateway(&mut self, key: FlowKey, packet: &IpPacket<'_>, now: Instant) {
        if self.tcp.is_full() {
            return self.tcp_reset(packet);
        }
        let id = self.new_id();
        self.tcp_open(id, key, HostEnd::Dns(DnsStream::default()), packet.whole, now);
    }

    /// Connects to the first of `others` that the kernel can connect to.
    fn tcp_connect(&mut self, id: u64, key: FlowKey, mut others: Vec<SocketAddr>, syn: Vec<u8>) {
        let mut failure = io::Error::from(ErrorKind::HostUnreachable);
        while !others.is_empty() {
            match sockets::begin_connect(others.remove(0)) {
                Ok(stream) => {
                    let events =
                        EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                    if self.watch(&stream, EngineKey::Tcp(id), events).is_ok() {
                        let state = TcpState::Connecting { syn, stream, others };
                        return self.tcp.insert(id, key, state);
                    }
                }
                Err(error) => failure = error,
            }
        }
        self.tcp.ids.remove(&key);
        self.tcp_failed(&syn, &failure);
    }

    /// Tells the guest why its connection was not made.
    fn tcp_failed(&mut self, syn: &[u8], error: &io::Error) {
        let Some(packet) = IpPacket::parse(syn) else { return };
        match error.kind() {
            ErrorKind::HostUnreachable | ErrorKind::TimedOut => {
                self.unreachable(Unreachable::Host, packet.quoted());
            }
            ErrorKind::NetworkUnreachable => {
                self.unreachable(Unreachable::Network, packet.quoted())
            }
            _ => self.tcp_reset(&packet),
        }
    }

    /// Connects to a name whose addresses are known now, or tells the guest that it has none.
    pub(super) fn tcp_resolved(&mut self, id: u64, now: Instant) {
        let Some(entry) = self.tcp.entries.remove(&id) else { return };
        let TcpState::Resolving { syn, name } = entry.state else { return };
        self.tcp.ids.remove(&entry.key);
        let Some(packet) = IpPacket::parse(&syn) else { return };
        let Some(addresses) = self.names.resolved(&name, now) else {
            return self.unreachable(Unreachable::Host, packet.quoted());
        };
        let port = entry.key.far.port();
        let all: Vec<SocketAddr> =
            addresses.iter().map(|&address| SocketAddr::new(address, port)).collect();
        let has_some = !all.is_empty();
        let permitted: Vec<SocketAddr> =
            all.into_iter().filter(|&to| self.policy.to_address_of_name(to).is_ok()).collect();
        if permitted.is_empty() && has_some {
            return self.deny_name(AttemptKind::Tcp, (&name, port), packet.quoted(), now);
        }
        let syn = packet.whole.to_vec();
        self.tcp_connect(id, entry.key, permitted, syn);
    }

    pub(super) fn tcp_event(&mut self, id: u64, readable: bool, writable: bool, now: Instant) {
        let Some(entry) = self.tcp.entries.get_mut(&id) else { return };
        match &mut entry.state {
            TcpState::Open { flow, .. } => {
                flow.readable |= readable;
                flow.writable |= writable;
                self.tcp.make_ready(id);
            }
            TcpState::Connecting { .. } if writable => self.tcp_connected(id, now),
            TcpState::Connecting { .. } | TcpState::Resolving { .. } => {}
        }
    }

    fn tcp_connected(&mut self, id: u64, now: Instant) {
        let Some(entry) = self.tcp.entries.remove(&id) else { return };
        let TcpState::Connecting { syn, stream, others } = entry.state else { return };
        match sockets::connected(&stream) {
            Ok(()) => self.tcp_open(id, entry.key, HostEnd::Socket(stream), &syn, now),
            Err(_) if !others.is_empty() => self.tcp_connect(id, entry.key, others, syn),
            Err(error) => {
                self.tcp.ids.remove(&entry.key);
                self.tcp_failed(&syn, &error);
            }
        }
    }

    /// Answers the guest's SYN.
    fn tcp_open(&mut self, id: u64, key: FlowKey, host: HostEnd, syn: &[u8], now: Instant) {
        let buffer = self.tcp.take_buffers();
        let seed = random::bytes().map_or(id, u64::from_ne_bytes);
        let Some(mut flow) = TcpFlow::from_guest(key.far, host, buffer, seed) else {
            self.tcp.give_buffers(buffer);
            self.tcp.ids.remove(&key);
            return;
        };
        flow.receive(syn, now, &mut self.out);
        self.tcp.insert(id, key, TcpState::Open { flow: Box::new(flow), buffer });
        self.tcp.make_ready(id);
    }

    /// Takes connections to a published port to the guest.
    pub(super) fn tcp_accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let PublishedEnd::Listener(listener, guest_port) = &self.published[index] else {
                return;
            };
            let (Ok(stream), guest_port) = (sockets::accept(listener), *guest_port) else { return };
            if self.tcp.is_full() {
                sockets::reset(stream);
                continue;
            }
            let id = self.new_id();
            let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            if self.watch(&stream, EngineKey::Tcp(id), events).is_ok() {
                self.tcp_to_guest(id, guest_port, stream);
            }
        }
    }

    fn tcp_to_guest(&mut self, id: u64, guest_port: u16, stream: TcpStream) {
        let key = self.tcp.gateway_key(guest_port);
        let buffer = self.tcp.take_buffers();
        let seed = random::bytes().map_or(id, u64::from_ne_bytes);
        let to = SocketAddr::new(GUEST_V4.into(), guest_port);
        match TcpFlow::to_guest(key.far, to, stream, buffer, seed) {
            Some(flow) => {
                self.tcp.insert(id, key, TcpState::Open { flow: Box::new(flow), buffer });
                self.tcp.make_ready(id);
            }
            None => self.tcp.give_buffers(buffer),
        }
    }

    /// Gives every connection that can move something its turn.
    pub(super) fn tcp_work(&mut self, now: Instant) {
        for _ in 0..self.tcp.ready.len() {
            if !self.out.has_room() {
                return;
            }
            let Some(id) = self.tcp.ready.pop_front() else { return };
            let Some(entry) = self.tcp.entries.get_mut(&id) else { continue };
            entry.is_ready = false;
            let TcpState::Open { flow, .. } = &mut entry.state else { continue };
            let state = flow.work(now, &mut self.out);
            let mut queries = Vec::new();
            if let Some(stream) = flow.dns() {
                queries.extend(std::iter::from_fn(|| stream.next_query()));
                flow.writable |= !queries.is_empty();
            }
            match state {
                FlowState::Busy => self.tcp.make_ready(id),
                FlowState::Waiting(Some(at)) => self.timers.set(EngineKey::Tcp(id), at),
                FlowState::Waiting(None) => {}
                FlowState::Over => self.tcp_remove(id),
            }
            if !queries.is_empty() {
                self.tcp.make_ready(id);
            }
            for query in queries {
                self.dns_query(DnsClient::Stream(id), &query, now);
            }
        }
    }

    fn tcp_remove(&mut self, id: u64) {
        self.timers.forget(EngineKey::Tcp(id));
        let Some(entry) = self.tcp.entries.remove(&id) else { return };
        self.tcp.ids.remove(&entry.key);
        if let TcpState::Open { flow, buffer } = entry.state {
            self.tcp.give_buffers(buffer);
            flow.finish();
        }
    }
}
