//! The line between a guest's network interface and its helper on the host: what both ends know without asking.
//!
//! Each frame or packet has its length before it, as four bytes with the most significant one first. QEMU sends the
//! frames of a network card; where the agent serves the line, they are the IP packets of a TUN interface.

use std::net::{Ipv4Addr, Ipv6Addr};

/// From a range for such lines (RFC 7335), which no network uses.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
pub const PREFIX_V4: u8 = 29;

/// Private addresses whose random part is "mayfly".
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6179, 0x666c, 0x79, 0, 0, 0, 1);
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6179, 0x666c, 0x79, 0, 0, 0, 2);
pub const PREFIX_V6: u8 = 64;

/// The address of the guest's network card, the same in every VM. It has the bit of addresses that are given locally.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x6d, 0x61, 0x79, 0x66, 0x02];

/// The largest IP packet of the line.
pub const MTU: usize = 65_520;

/// Why an agent cannot give its guest a network. Images of earlier versions have no drivers for it.
pub const NO_DRIVER: &str = "the image has no driver for a network";

/// The vsock port on which the agent serves the line, on backends without a network card.
pub const VSOCK_NETWORK: u32 = 1026;
