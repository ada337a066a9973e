//! What a guest cannot reach, in every form that an address has.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use mayfly::model::LinkKind;
use mayfly::model::NetworkMode;
use mayfly::network::addresses::{GUEST_V4, GUEST_V6};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::helper::{Helper, order};
use crate::support::special_addresses;

/// An error is told again sooner.
const QUIET: Duration = Duration::from_millis(500);

fn ip(to: IpAddr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    match to {
        IpAddr::V4(to) => {
            let repr = Ipv4Repr {
                src_addr: GUEST_V4,
                dst_addr: to,
                next_header: protocol,
                payload_len: payload.len(),
                hop_limit: 64,
            };
            let mut bytes = vec![0; repr.buffer_len() + payload.len()];
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
            repr.emit(&mut packet, &ChecksumCapabilities::default());
            packet.payload_mut().copy_from_slice(payload);
            bytes
        }
        IpAddr::V6(to) => {
            let repr = Ipv6Repr {
                src_addr: GUEST_V6,
                dst_addr: to,
                next_header: protocol,
                payload_len: payload.len(),
                hop_limit: 64,
            };
            let mut bytes = vec![0; repr.buffer_len() + payload.len()];
            let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
            repr.emit(&mut packet);
            packet.payload_mut().copy_from_slice(payload);
            bytes
        }
    }
}

fn guest_for(to: IpAddr) -> IpAddr {
    if to.is_ipv4() { GUEST_V4.into() } else { GUEST_V6.into() }
}

fn syn(to: SocketAddr) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: to.port(),
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(7),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1400),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let (from, target) = (guest_for(to.ip()).into(), to.ip().into());
    let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
    repr.emit(&mut packet, &from, &target, &ChecksumCapabilities::default());
    ip(to.ip(), IpProtocol::Tcp, &bytes)
}

fn datagram(to: SocketAddr) -> Vec<u8> {
    let repr = UdpRepr { src_port: 40_000, dst_port: to.port() };
    let mut bytes = vec![0; repr.header_len() + 4];
    let (from, target) = (guest_for(to.ip()).into(), to.ip().into());
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    let fill = |payload: &mut [u8]| payload.copy_from_slice(b"data");
    repr.emit(&mut packet, &from, &target, 4, fill, &ChecksumCapabilities::default());
    ip(to.ip(), IpProtocol::Udp, &bytes)
}

#[test]
fn nothing_special_is_reached_by_tcp_or_udp_in_any_encoding() {
    // What is really there would answer if it were reached.
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = UdpSocket::bind(("::", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let all = special_addresses::all();
    for mode in [NetworkMode::Egress, NetworkMode::None] {
        let order = {
            let mut order = order(LinkKind::Ip, &["example.org"]);
            order.mode = mode;
            order
        };
        let mut guest = Helper::start(order, Vec::new());
        for address in &all {
            let prohibited = if address.is_ipv4() { (3, 13) } else { (1, 1) };
            for packet in [syn, datagram] {
                let packet = packet(SocketAddr::new(*address, port));
                guest.line.send(&packet);
                let told = guest.until(|guest| guest.line.unreachable.pop());
                assert_eq!(told, prohibited, "{address} {mode:?}");
            }
        }
        let denied = guest.until(|guest| {
            let denied = guest.events().last()?.denied;
            (denied >= 2 * all.len() as u64).then_some(denied)
        });
        assert_eq!(denied, 2 * all.len() as u64);
    }
    assert!(listener.accept().is_err());
    assert!(socket.recv(&mut [0; 4]).is_err());
}

/// What the guest has been told when nothing more comes.
fn told(guest: &mut Helper) -> usize {
    let all = |guest: &Helper| guest.line.unreachable.len() + guest.line.repeated;
    let mut seen = (0, Instant::now());
    guest.until(|guest| {
        if all(guest) != seen.0 {
            seen = (all(guest), Instant::now());
        }
        (seen.1.elapsed() > QUIET).then_some(seen.0)
    })
}

#[test]
fn the_denial_of_a_connection_is_told_again_for_a_guest_that_dropped_it() {
    let mut guest = Helper::with_rules(&[]);
    for (number, to) in ["9.9.9.9:80", "[2620:fe::9]:80"].iter().enumerate() {
        let to = to.parse().unwrap();
        guest.line.send(&syn(to));
        guest.until(|guest| (guest.line.repeated == 2 * (number + 1)).then_some(()));
        // Linux takes each error about a datagram.
        guest.line.send(&datagram(to));
        assert_eq!(told(&mut guest), 4 * (number + 1));
    }
    assert_eq!(guest.line.unreachable, [(3, 13), (3, 13), (1, 1), (1, 1)]);
    guest.until(|guest| (guest.events().last()?.denied == 4).then_some(()));
}

#[test]
fn a_flood_of_denied_connections_is_not_told_again() {
    let mut guest = Helper::with_rules(&[]);
    for port in 1..=5000 {
        guest.line.send(&syn(SocketAddr::new([9, 9, 9, 9].into(), port)));
    }
    let told = told(&mut guest);
    assert_eq!(guest.line.unreachable.len(), 5000);
    assert!(guest.line.repeated < 5000, "{told}");
    assert!(guest.resident() < 8 << 10, "{} KiB", guest.resident());
}

#[test]
fn connections_of_an_earlier_helper_end_at_once() {
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    for flags in [0x10, 0x18, 0x11, 0x12] {
        let mut packet = syn("127.0.0.1:80".parse().unwrap());
        // Acknowledged data, its end, and the answer to a connection from a published port.
        packet[33] = flags;
        let mut header = Ipv4Packet::new_unchecked(&mut packet[..]);
        let (from, to) = (header.src_addr().into(), header.dst_addr().into());
        TcpPacket::new_unchecked(header.payload_mut()).fill_checksum(&from, &to);
        guest.line.send(&packet);
        let reset = guest.until(|guest| guest.line.resets.pop());
        assert_eq!(reset, 40_000, "{flags:#x}");
    }
    assert_eq!(guest.denied(), [""; 0]);
}

#[test]
fn packets_from_other_addresses_and_to_groups_are_ignored() {
    let mut guest = Helper::with_rules(&["0::/16", "127.0.0.0/8"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut spoofed = syn(listener.local_addr().unwrap());
    spoofed[15] = 5;
    // The checksums of a packet from 192.0.0.5.
    let mut header = Ipv4Packet::new_unchecked(&mut spoofed[..]);
    header.fill_checksum();
    let (from, to) = (header.src_addr().into(), header.dst_addr().into());
    TcpPacket::new_unchecked(header.payload_mut()).fill_checksum(&from, &to);
    let all = [
        spoofed,
        datagram("224.0.0.251:5353".parse().unwrap()),
        datagram("255.255.255.255:67".parse().unwrap()),
        datagram("[ff02::fb]:5353".parse().unwrap()),
        syn("[ff02::1]:80".parse().unwrap()),
        vec![0x45; 19],
        vec![0x60; 39],
        Vec::new(),
    ];
    for packet in all {
        guest.line.send(&packet);
    }
    // It is alive, and has seen them.
    guest.line.send(&datagram("1.1.1.1:1".parse().unwrap()));
    guest.until(|guest| (guest.line.unreachable.len() == 1).then_some(()));
    assert_eq!(guest.denied(), ["Udp 1.1.1.1:1 \"not_allowed\" Some(\"1.1.1.1:1\")"]);
    assert!(listener.accept().is_err());
}
