//! The addresses on the line between a guest and its helper. They are the same in every VM.

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress;

pub use crate::protocol::network::{
    GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, PREFIX_V4, PREFIX_V6,
};

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
