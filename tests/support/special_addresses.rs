//! Addresses that a guest must not reach, in every form that an address has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 addresses that `egress` does not reach, of every special range.
const V4: [&str; 34] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.254",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.254",
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.254",
    "192.0.0.3",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.254",
    "198.18.0.1",
    "198.19.255.254",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "250.1.2.3",
    "254.255.255.254",
    "255.255.255.254",
    "192.0.0.1",
];

/// IPv6 addresses without an IPv4 address in them.
const V6: [&str; 16] = [
    "::",
    "::1",
    "100::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "fd6d:6179:666c:79::1",
];

/// The IPv6 addresses that contain an IPv4 address.
fn encodings(address: Ipv4Addr) -> Vec<IpAddr> {
    let [a, b, c, d] = address.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    let all = [
        [0, 0, 0, 0, 0, 0xffff, high, low],
        [0, 0, 0, 0, 0xffff, 0, high, low],
        [0, 0, 0, 0, 0, 0, high, low],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low],
        [0x64, 0xff9b, 1, 0, 0, 0, high, low],
        [0x2002, high, low, 0, 0, 0, 0, 1],
        [0x2001, 0, 0, 0, 0, 0, !high, !low],
    ];
    all.map(|segments| Ipv6Addr::from(segments).into()).into()
}

/// All of them, those of IPv4 also in their encodings. Each is there once.
pub fn all() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = V6.iter().map(|text| text.parse().unwrap()).collect();
    for text in V4 {
        let address: Ipv4Addr = text.parse().unwrap();
        all.push(address.into());
        all.extend(encodings(address));
    }
    all.sort_unstable();
    all.dedup();
    all
}
