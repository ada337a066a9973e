//! The addresses on the line between a guest and its helper. They are the same in every VM.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::EthernetAddress;

/// From a range for such lines (RFC 7335), which no network uses.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
pub const PREFIX_V4: u8 = 29;

/// Private addresses whose random part is "mayfly".
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6179, 0x666c, 0x79, 0, 0, 0, 1);
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6179, 0x666c, 0x79, 0, 0, 0, 2);
pub const PREFIX_V6: u8 = 64;

/// The gateway's address on an Ethernet line. It has the bit of addresses that are given locally.
pub const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x02, 0x6d, 0x61, 0x79, 0x66, 0x01]);

/// The guest's address in the family of `other`.
pub fn guest_for(other: IpAddr) -> IpAddr {
    if other.is_ipv4() { GUEST_V4.into() } else { GUEST_V6.into() }
}

/// Whether it is one of the gateway's addresses.
pub fn is_gateway(address: IpAddr) -> bool {
    address == IpAddr::V4(GATEWAY_V4) || address == IpAddr::V6(GATEWAY_V6)
}
