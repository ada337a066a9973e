//! The names of a JSON object's fields, in order.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The fields of a VM in `--json`, in their documented order.
pub const VM: [&str; 20] = [
    "vm_id",
    "profile",
    "vcpu_count",
    "mem_mib",
    "disk_mib",
    "ttl_seconds",
    "created_at",
    "expires_at",
    "state",
    "metadata",
    "name",
    "backend",
    "accelerator",
    "isolation",
    "keep",
    "last_error",
    "labels",
    "host",
    "image_digest",
    "network",
];

/// The fields of a template in `--json`.
pub const TEMPLATE: [&str; 12] = [
    "template",
    "damaged",
    "profile",
    "image_digest",
    "backend",
    "accelerator",
    "vcpu_count",
    "mem_mib",
    "vmm_version",
    "bytes",
    "created_at",
    "last_used_at",
];

struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The names of the fields of an object.
#[track_caller]
pub fn names(object: &str) -> Vec<String> {
    serde_json::from_str::<Names>(object).unwrap_or_else(|error| panic!("{error}: {object}")).0
}
