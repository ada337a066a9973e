//! Where the profile files set their keys.

use std::collections::BTreeMap;

/// The file and line of each key that a file sets, such as `limits.ttl_seconds` or `profiles.mine.mem_mib`. A later
/// file takes precedence, and the built-in one is not listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPlaces(BTreeMap<String, String>);

impl KeyPlaces {
    /// Adds a key, or moves it.
    pub fn insert(&mut self, key: String, place: String) {
        self.0.insert(key, place);
    }

    /// The place of a key, as in `/etc/mayfly/profiles.toml:3`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}
