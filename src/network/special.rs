//! Ranges of addresses that are not on the internet, or that reach this host or its neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Why an address is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecialRange {
    Loopback,
    Private,
    /// Where clouds have their metadata services.
    LinkLocal,
    Multicast,
    /// An IPv4 address in an IPv6 address.
    EncodedV4,
    Reserved,
}

/// The range of an address that only an address rule can permit.
pub fn special_range(address: IpAddr) -> Option<SpecialRange> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// Whether the kernel takes this IPv6 address for an IPv4 address. No rule permits these: a rule for IPv6 would
/// permit addresses that it does not name.
pub fn is_v4_in_disguise(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return false };
    let segments = address.segments();
    segments[..5] == [0; 5] && (segments[5] == 0xffff || (segments[5] == 0 && segments[6] != 0))
}

fn special_v4(address: Ipv4Addr) -> Option<SpecialRange> {
    Some(match address.octets() {
        [0, ..] => SpecialRange::Reserved,
        [127, ..] => SpecialRange::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => SpecialRange::Private,
        // Addresses of a provider's network, which some clouds also serve metadata on.
        [100, 64..=127, ..] => SpecialRange::Private,
        // The last is Azure's, in the middle of public addresses.
        [169, 254, ..] | [168, 63, 129, 16] => SpecialRange::LinkLocal,
        // Protocols, documentation, relays of 6to4, benchmarks.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => SpecialRange::Reserved,
        [198, 51, 100, _] | [203, 0, 113, _] => SpecialRange::Reserved,
        [224..=239, ..] => SpecialRange::Multicast,
        [240..=255, ..] => SpecialRange::Reserved,
        _ => return None,
    })
}

fn special_v6(address: Ipv6Addr) -> Option<SpecialRange> {
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => SpecialRange::Loopback,
        // Compatible and mapped addresses, and both prefixes of NAT64.
        [0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, _, 0xffff, ..] | [0x64, 0xff9b, ..] => {
            SpecialRange::EncodedV4
        }
        [0x2002, ..] => SpecialRange::EncodedV4,
        // Teredo is among the protocols of 2001::/23.
        [0x2001, 0, ..] => SpecialRange::EncodedV4,
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            SpecialRange::Reserved
        }
        [0x2000..=0x3fff, ..] => return None,
        [0xfe80..=0xfebf, ..] => SpecialRange::LinkLocal,
        // The second are the site-local addresses of old.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => SpecialRange::Private,
        [0xff00..=0xffff, ..] => SpecialRange::Multicast,
        _ => SpecialRange::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// First and last addresses of special ranges, and well-known ones in them.
    pub const SPECIAL: [&str; 66] = [
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.0",
        "203.0.113.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ];

    const PUBLIC: [&str; 24] = [
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2606:4700::1111",
        "3ffe:ffff::1",
    ];

    #[test]
    fn special_addresses_are_and_their_public_neighbours_are_not() {
        for text in SPECIAL {
            assert!(special_range(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in PUBLIC {
            assert_eq!(special_range(text.parse().unwrap()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_encoding_of_an_ipv4_address_is_public(octets: [u8; 4]) {
            let [a, b, c, d] = octets.map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for segments in [
                [0, 0, 0, 0, 0, 0xffff, high, low],
                [0, 0, 0, 0, 0xffff, 0, high, low],
                [0, 0, 0, 0, 0, 0, high, low],
                [0x64, 0xff9b, 0, 0, 0, 0, high, low],
                [0x64, 0xff9b, 1, 0, 0, 0, high, low],
                [0x2002, high, low, 0, 0, 0, 0, 1],
                [0x2001, 0, 0, 0, 0, 0, !high, !low],
                [0xfe80, 0, 0, 0, 0, 0x5efe, high, low],
            ] {
                prop_assert!(special_range(Ipv6Addr::from(segments).into()).is_some());
            }
        }

        #[test]
        fn only_global_ipv6_addresses_are_public(bits: u128) {
            let address = Ipv6Addr::from(bits);
            if special_range(address.into()).is_none() {
                prop_assert_eq!(address.segments()[0] >> 13, 1);
            }
        }
    }
}
