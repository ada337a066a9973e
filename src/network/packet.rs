//! Packets that no connection needs: errors, echoes, datagrams, and who has which address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet,
    Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::addresses::{GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6};
use super::line::{LineWriter, MTU};

const ECHO_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;

/// Types of ICMPv6 messages.
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// How much of a packet an error repeats: an IP header and the ports of the payload.
const QUOTED_V4: usize = 28;
const QUOTED_V6: usize = 48;

/// An unfragmented packet of the guest.
#[derive(Debug, Clone, Copy)]
pub struct IpPacket<'a> {
    pub whole: &'a [u8],
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: IpProtocol,
    pub payload: &'a [u8],
}

/// Why a guest cannot reach an address, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    Prohibited,
    Network,
    Host,
    Port,
}

impl<'a> IpPacket<'a> {
    /// Reads a packet; `None` if it is damaged, a fragment, or one with IPv6 options.
    pub fn parse(bytes: &'a [u8]) -> Option<IpPacket<'a>> {
        match bytes.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                let is_whole = !packet.more_frags() && packet.frag_offset() == 0;
                is_whole.then_some(())?;
                Some(IpPacket {
                    whole: bytes.get(..usize::from(packet.total_len()))?,
                    source: packet.src_addr().into(),
                    destination: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    payload: packet.payload(),
                })
            }
            6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                Some(IpPacket {
                    whole: bytes.get(..packet.total_len())?,
                    source: packet.src_addr().into(),
                    destination: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    payload: packet.payload(),
                })
            }
            _ => None,
        }
    }

    /// The beginning, which errors repeat.
    pub fn quoted(&self) -> &'a [u8] {
        let length = if self.source.is_ipv4() { QUOTED_V4 } else { QUOTED_V6 };
        &self.whole[..length.min(self.whole.len())]
    }

    /// Answers a question that only the gateway itself is asked: an echo, or who has an IPv6 address. Returns
    /// whether it was one.
    pub fn answer_by_gateway(&self, out: &mut LineWriter) -> bool {
        match (self.protocol, self.payload.first()) {
            (IpProtocol::Icmp, Some(8)) if self.destination == GATEWAY_V4 => {}
            (IpProtocol::Icmpv6, Some(128)) if self.destination == GATEWAY_V6 => {}
            (IpProtocol::Icmpv6, Some(&NEIGHBOR_SOLICITATION)) => {
                self.answer_solicitation(out);
                return true;
            }
            // Errors, advertisements, memberships of groups.
            (IpProtocol::Icmpv6, kind) => return kind != Some(&128),
            _ => return false,
        }
        if self.payload.len() >= ECHO_HEADER && self.payload.len() + 40 <= MTU {
            let mut reply = self.payload.to_vec();
            reply[0] = if self.source.is_ipv4() { 0 } else { 129 };
            send_icmp(out, self.destination, self.source, &mut reply, HOP_LIMIT);
        }
        true
    }

    /// Every address but the guest's is behind the gateway.
    fn answer_solicitation(&self, out: &mut LineWriter) {
        let Some(target) =
            self.payload.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
        else {
            return;
        };
        let target = Ipv6Addr::from(target);
        if target == GUEST_V6 || self.source == Ipv6Addr::UNSPECIFIED {
            // The guest asks whether it is alone with its address.
            return;
        }
        let mut reply = vec![0; 32];
        reply[0] = NEIGHBOR_ADVERTISEMENT;
        // An answer, which replaces what was known.
        reply[4] = 0x60;
        reply[8..24].copy_from_slice(&target.octets());
        // The option with the address on the line, in units of eight bytes.
        reply[24..26].copy_from_slice(&[2, 1]);
        reply[26..].copy_from_slice(&GATEWAY_MAC.0);
        send_icmp(out, target.into(), self.source, &mut reply, 255);
    }
}

/// Answers who has an IPv4 address, if this frame asks it. Every address but the guest's is behind the gateway.
pub fn answer_arp(frame: &[u8], out: &mut LineWriter) {
    let request = ArpPacket::new_checked(frame).and_then(|packet| ArpRepr::parse(&packet));
    let Ok(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = request
    else {
        return;
    };
    if target_protocol_addr == GUEST_V4 {
        return;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: GATEWAY_MAC,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let ethernet = EthernetRepr {
        src_addr: GATEWAY_MAC,
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    };
    let header = ethernet.buffer_len();
    let bytes = out.frame(header + reply.buffer_len());
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut *bytes));
    reply.emit(&mut ArpPacket::new_unchecked(&mut bytes[header..]));
}

/// What is in the packet that begins with `quoted`.
pub fn quoted_protocol(quoted: &[u8]) -> Option<IpProtocol> {
    let place = if quoted.first()? >> 4 == 4 { 9 } else { 6 };
    quoted.get(place).map(|byte| IpProtocol::from(*byte))
}

/// Tells the guest that the packet that begins with `quoted` did not arrive.
pub fn send_unreachable(out: &mut LineWriter, reason: Unreachable, quoted: &[u8]) {
    let is_v4 = quoted.first().is_some_and(|byte| byte >> 4 == 4);
    let (kind, code) = match (is_v4, reason) {
        (true, Unreachable::Network) => (3, 0),
        (true, Unreachable::Host) => (3, 1),
        (true, Unreachable::Port) => (3, 3),
        (true, Unreachable::Prohibited) => (3, 13),
        (false, Unreachable::Network) => (1, 0),
        (false, Unreachable::Prohibited) => (1, 1),
        (false, Unreachable::Host) => (1, 3),
        (false, Unreachable::Port) => (1, 4),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(quoted);
    let (from, to) = if is_v4 {
        (IpAddr::V4(GATEWAY_V4), IpAddr::V4(GUEST_V4))
    } else {
        (IpAddr::V6(GATEWAY_V6), IpAddr::V6(GUEST_V6))
    };
    send_icmp(out, from, to, &mut message, HOP_LIMIT);
}

fn send_icmp(out: &mut LineWriter, from: IpAddr, to: IpAddr, message: &mut [u8], hop_limit: u8) {
    let protocol = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Icmpv6Packet::new_unchecked(&mut *message).fill_checksum(&from, &to);
            IpProtocol::Icmpv6
        }
        _ => {
            Icmpv4Packet::new_unchecked(&mut *message).fill_checksum();
            IpProtocol::Icmp
        }
    };
    send_ip(out, from, to, protocol, hop_limit, message.len(), |place| {
        place.copy_from_slice(message)
    });
}

/// Sends a datagram, if it fits into a packet.
pub fn send_datagram(out: &mut LineWriter, from: SocketAddr, to: SocketAddr, data: &[u8]) {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let length = repr.header_len() + data.len();
    if length + 40 > MTU || !out.has_room() {
        return;
    }
    send_ip(out, from.ip(), to.ip(), IpProtocol::Udp, HOP_LIMIT, length, |place| {
        repr.emit(
            &mut UdpPacket::new_unchecked(place),
            &from.ip().into(),
            &to.ip().into(),
            data.len(),
            |payload| payload.copy_from_slice(data),
            &ChecksumCapabilities::default(),
        );
    });
}

/// Refuses a segment as a host does on which nothing listens.
pub fn send_reset(out: &mut LineWriter, packet: &IpPacket<'_>) {
    let Ok(segment) = TcpPacket::new_checked(packet.payload) else { return };
    if segment.rst() {
        return;
    }
    let acknowledges = segment.ack();
    let repr = TcpRepr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        control: TcpControl::Rst,
        seq_number: if acknowledges { segment.ack_number() } else { TcpSeqNumber(0) },
        ack_number: (!acknowledges).then(|| segment.seq_number() + segment.segment_len()),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (from, to) = (packet.destination, packet.source);
    send_ip(out, from, to, IpProtocol::Tcp, HOP_LIMIT, repr.buffer_len(), |place| {
        let capabilities = ChecksumCapabilities::default();
        repr.emit(&mut TcpPacket::new_unchecked(place), &from.into(), &to.into(), &capabilities);
    });
}

fn send_ip(
    out: &mut LineWriter,
    from: IpAddr,
    to: IpAddr,
    next_header: IpProtocol,
    hop_limit: u8,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    match (from, to) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            out.packet(repr.buffer_len() + payload_len, |bytes| {
                let mut packet = Ipv4Packet::new_unchecked(bytes);
                repr.emit(&mut packet, &ChecksumCapabilities::default());
                fill(packet.payload_mut());
            });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            out.packet(repr.buffer_len() + payload_len, |bytes| {
                let mut packet = Ipv6Packet::new_unchecked(bytes);
                repr.emit(&mut packet);
                fill(packet.payload_mut());
            });
        }
        _ => {}
    }
}
