//! Addresses of our own for the names that a guest may reach.
//!
//! A guest that is limited to names is told such an address instead of a name's real one. A connection to it is a
//! connection to the name, which is resolved when the connection is made. So a name may change its addresses, and a name
//! opens no other name that has the same address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::model::DnsName;

/// The range for benchmarks, which is routed nowhere: 198.18.0.0/15.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Its addresses, without the first and the last.
const COUNT: u32 = (1 << 17) - 2;

/// The most names. One that nothing asked for lately makes room for another.
const MOST_NAMES: usize = 4096;

/// For how long guests remember an address.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct NameEntry {
    name: DnsName,
    used: Instant,
    /// The real addresses, and until when they may be used.
    resolved: Option<(Vec<IpAddr>, Instant)>,
}

/// The names that have addresses of our own.
#[derive(Debug, Default)]
pub struct NameTable {
    by_address: HashMap<Ipv4Addr, NameEntry>,
    by_name: HashMap<DnsName, Ipv4Addr>,
}

impl NameTable {
    /// The address of a name, which it gets if it has none. `None` if there are too many names.
    ///
    /// It is computed from the name, so that a helper that takes over gives names the same addresses.
    pub fn address_of(&mut self, name: &DnsName, now: Instant) -> Option<Ipv4Addr> {
        if let Some(&address) = self.by_name.get(name) {
            self.touch(address, now);
            return Some(address);
        }
        if self.by_name.len() >= MOST_NAMES {
            self.forget_one(now)?;
        }
        let digest = Sha256::digest(name.as_str());
        let start = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % COUNT;
        let mut places = (0..COUNT).map(|step| Ipv4Addr::from(FIRST + 1 + (start + step) % COUNT));
        let address = places.find(|place| !self.by_address.contains_key(place))?;
        let entry = NameEntry { name: name.clone(), used: now, resolved: None };
        self.by_address.insert(address, entry);
        self.by_name.insert(name.clone(), address);
        Some(address)
    }

    /// The name that has an address.
    pub fn name_at(&mut self, address: IpAddr, now: Instant) -> Option<DnsName> {
        let IpAddr::V4(address) = address else { return None };
        self.touch(address, now);
        self.by_address.get(&address).map(|entry| entry.name.clone())
    }

    fn touch(&mut self, address: Ipv4Addr, now: Instant) {
        if let Some(entry) = self.by_address.get_mut(&address) {
            entry.used = now;
        }
    }

    /// The real addresses of a name, if they were looked up lately.
    pub fn resolved(&self, name: &DnsName, now: Instant) -> Option<&[IpAddr]> {
        let entry = self.by_address.get(self.by_name.get(name)?)?;
        let (addresses, until) = entry.resolved.as_ref()?;
        (*until > now).then_some(addresses)
    }

    /// Takes note of a name's real addresses.
    pub fn set_resolved(&mut self, name: &DnsName, addresses: Vec<IpAddr>, until: Instant) {
        let address = self.by_name.get(name);
        if let Some(entry) = address.and_then(|address| self.by_address.get_mut(address)) {
            entry.resolved = Some((addresses, until));
        }
    }

    /// Forgets the name that was used longest ago, if guests have forgotten its address too.
    fn forget_one(&mut self, now: Instant) -> Option<()> {
        let (&address, entry) = self.by_address.iter().min_by_key(|(_, entry)| entry.used)?;
        if now.duration_since(entry.used) < 2 * TIME_TO_LIVE {
            return None;
        }
        let entry = self.by_address.remove(&address)?;
        self.by_name.remove(&entry.name);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_has_the_same_address_in_every_table() {
        let now = Instant::now();
        let (mut one, mut other) = (NameTable::default(), NameTable::default());
        other.address_of(&name("another.example"), now).unwrap();
        let address = one.address_of(&name("example.org"), now).unwrap();
        assert_eq!(other.address_of(&name("example.org"), now), Some(address));
        assert_eq!(one.address_of(&name("example.org"), now), Some(address));
        assert_eq!(u32::from(address) >> 17, FIRST >> 17);
        assert_eq!(one.name_at(address.into(), now), Some(name("example.org")));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_only_what_guests_forgot() {
        let mut table = NameTable::default();
        let begin = Instant::now();
        for number in 0..MOST_NAMES {
            assert!(table.address_of(&name(&format!("n{number}.example")), begin).is_some());
        }
        let later = begin + TIME_TO_LIVE;
        assert_eq!(table.address_of(&name("one-more.example"), later), None);
        table.address_of(&name("n0.example"), later).unwrap();
        let much_later = begin + 2 * TIME_TO_LIVE;
        assert!(table.address_of(&name("one-more.example"), much_later).is_some());
        assert!(table.by_name.contains_key(&name("n0.example")));
        assert_eq!(table.by_name.len(), MOST_NAMES);
        assert_eq!(table.by_address.len(), MOST_NAMES);
    }

    #[test]
    fn real_addresses_are_used_for_as_long_as_they_may_be() {
        let (mut table, now) = (NameTable::default(), Instant::now());
        let real = vec!["1.1.1.1".parse().unwrap()];
        table.address_of(&name("example.org"), now);
        table.set_resolved(&name("example.org"), real.clone(), now + TIME_TO_LIVE);
        assert_eq!(table.resolved(&name("example.org"), now), Some(&real[..]));
        assert_eq!(table.resolved(&name("example.org"), now + TIME_TO_LIVE), None);
    }
}
