//! What the registry file holds.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::host::seal::{has_seal, seal};
use crate::model::{Refusal, RefusalKind, VmId, VmName, VmRecord, VmRef};

/// The layout of the file that this program writes. A newer one is refused. An older one is read, because
/// what it lacks has a default, and the next change writes it in this layout.
///
/// - 1: the first.
/// - 2: VMs have labels.
/// - 3: The file ends in a seal; processes have a place, and operations a command.
pub const SCHEMA: u32 = 3;

/// The first schema whose files have a seal.
const SEALED: u32 = 3;

/// The first guess of how many bytes a record takes as JSON. Memory that is reserved in vain is never touched.
const RECORD_SIZE: usize = 2048;

/// The registry's content.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegistryContents {
    pub schema: u32,
    /// Grows by one with every change.
    pub generation: u64,
    pub vms: BTreeMap<VmId, VmRecord>,
}

impl RegistryContents {
    /// The registry of an unused state directory.
    pub fn empty() -> Self {
        RegistryContents { schema: SCHEMA, generation: 0, vms: BTreeMap::new() }
    }

    /// Parses a registry file.
    ///
    /// # Errors
    /// `Failure` if it is damaged, or a newer mayfly wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        // A newer mayfly may seal in another way, so its files are told by the schema alone.
        let is_sealed =
            has_seal(bytes).or_else(|why| check_schema(bytes).and(Err(damage(&why))))?;
        // Parsed only once, because it may hold many VMs. The schema matters if that fails.
        let parsed = serde_json::from_slice::<SealedContents>(bytes);
        if !parsed.as_ref().is_ok_and(|contents| contents.schema <= SCHEMA) {
            check_schema(bytes)?;
        }
        let parsed = parsed.map_err(|error| damage(&error.to_string()))?;
        if !is_sealed && parsed.schema >= SEALED {
            return Err(damage("it has no seal"));
        }
        let SealedContents { generation, vms, .. } = parsed;
        let contents = RegistryContents { schema: SCHEMA, generation, vms };
        match contents.vms.iter().find(|(id, record)| *id != record.id()) {
            // A command would find one VM and change the other.
            Some((id, record)) => Err(damage(&format!("VM {} is listed as VM {id}", record.id()))),
            None => Ok(contents),
        }
    }

    /// The text of a registry file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut json = Vec::with_capacity((self.vms.len() + 1) * RECORD_SIZE);
        serde_json::to_writer(&mut json, self).context("cannot serialize the registry")?;
        Ok(seal(json))
    }

    /// The id of the VM that a user typed. VMs of the pool, which most lists do not show, make no prefix ambiguous.
    pub fn resolve(&self, vm: &VmRef) -> Result<VmId, Refusal> {
        let among = |in_pool| {
            let chosen =
                self.vms.iter().filter(move |(_, record)| record.manifest.in_pool == in_pool);
            vm.resolve(chosen.map(|(id, record)| (id, record.manifest.name.as_ref())))
        };
        let listed = among(false);
        match &listed {
            Err(refusal) if refusal.kind == RefusalKind::NotFound => among(true).or(listed),
            _ => listed,
        }
    }

    /// The record of `id`.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn get(&self, id: &VmId) -> Result<&VmRecord, Refusal> {
        self.vms.get(id).ok_or_else(|| gone(id))
    }

    /// The record of `id`, to change it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn get_mut(&mut self, id: &VmId) -> Result<&mut VmRecord, Refusal> {
        self.vms.get_mut(id).ok_or_else(|| gone(id))
    }

    /// Checks that no VM but `except` has this name.
    ///
    /// # Errors
    /// `NameTaken` if one has.
    pub fn check_name(&self, name: &VmName, except: Option<&VmId>) -> Result<(), Refusal> {
        let has_it = |record: &&VmRecord| record.manifest.name.as_ref() == Some(name);
        let holder = self.vms.values().find(has_it).map(VmRecord::id);
        if holder.is_none() || holder == except {
            return Ok(());
        }
        let message = format!("a VM named {name:?} exists already", name = name.as_str());
        Err(Refusal::new(RefusalKind::NameTaken, message)
            .hint(format!("choose another name, or delete it with 'mayfly rm {name}'")))
    }
}

/// The registry's content as it is in the file, whose seal was checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedContents {
    schema: u32,
    generation: u64,
    vms: BTreeMap<VmId, VmRecord>,
    #[serde(default, rename = "seal")]
    _seal: IgnoredAny,
}

/// What files of all schemas have.
#[derive(Deserialize)]
struct Header {
    schema: u32,
}

/// Refuses a registry file that a newer mayfly wrote.
pub fn check_schema(bytes: &[u8]) -> Result<(), Refusal> {
    let schema = serde_json::from_slice(bytes).map_or(0, |Header { schema }| schema);
    if schema <= SCHEMA {
        return Ok(());
    }
    let message = format!(
        "the registry was made by a newer mayfly: it has schema {schema}, and this one knows up to {SCHEMA}"
    );
    Err(Refusal::new(RefusalKind::Failure, message).hint("use the newer mayfly that wrote it"))
}

fn damage(how: &str) -> Refusal {
    Refusal::new(RefusalKind::Failure, format!("the registry is damaged: {how}"))
        .hint("'mayfly reap --rebuild' makes a new one from the VMs' manifests")
}

/// The refusal for a VM that has no record.
pub fn gone(id: &VmId) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("VM {id} does not exist"))
        .hint("'mayfly status' lists all VMs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state_tests::record;
    use crate::model::{VmManifest, VmPhase};

    #[test]
    fn damage_is_an_error_and_never_an_empty_registry() {
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            "null",
            r#"{"schema":1}"#,
            r#"{"schema":1,"generation":1,"vms":{"x":{}}}"#,
            r#"{"schema":3,"generation":1,"vms":{}}"#,
        ] {
            let refusal = RegistryContents::parse(bad.as_bytes()).unwrap_err();
            assert!(refusal.hint.unwrap().contains("--rebuild"), "{bad}");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_without_looking_further() {
        let refusal = RegistryContents::parse(br#"{"schema":4,"machines":[]}"#).unwrap_err();
        assert!(refusal.message.contains("schema 4"), "{refusal}");
    }

    /// As the program with schema 1 wrote it.
    #[test]
    fn an_older_schema_is_read_and_becomes_this_one() {
        let older = r#"{"schema":1,"generation":41,"vms":{"0123456789ab":{"manifest":{
            "vm_id":"0123456789ab","name":"ci","profile":"debian-base","vcpu_count":1,"mem_mib":1024,
            "ttl_seconds":600,"created_at":1.5,"backend":"qemu","accelerator":"tcg","keep":true,
            "image":"abc","nested":false,"jailed":false,"vmm_uid":null,"owner":null,
            "metadata":{"rootfs_image":"/r"}},
            "expiry":{"expires_at":601.5,"expires_boottime":700.0,"boot_id":"b"},
            "state":{"phase":"started","instance":{"process":{"pid":7,"start_ticks":8,
            "boot_id":"b"}}}}}}"#;
        let read = RegistryContents::parse(older.as_bytes()).unwrap();
        let id = "0123456789ab".parse().unwrap();
        assert_eq!((read.schema, read.generation), (SCHEMA, 41));
        assert!(read.vms[&id].manifest.labels.is_empty());
        let written = read.to_bytes().unwrap();
        assert_eq!(RegistryContents::parse(&written).unwrap(), read);
        // With one wrong bit anywhere it is damaged, or claims to be newer.
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut bytes = written.clone();
                bytes[at] ^= 1 << bit;
                assert!(RegistryContents::parse(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_vm_of_the_pool_makes_no_prefix_ambiguous() {
        let mut contents = RegistryContents::empty();
        for (id, in_pool) in
            [("a1aaaaaaaaaa", false), ("a2aaaaaaaaaa", true), ("a3aaaaaaaaaa", true)]
        {
            let manifest =
                VmManifest { vm_id: id.parse().unwrap(), in_pool, ..VmManifest::sample() };
            let record = VmRecord { manifest, ..record(VmPhase::Created) };
            contents.vms.insert(id.parse().unwrap(), record);
        }
        let resolve = |typed: &str| contents.resolve(&typed.parse().unwrap());
        assert_eq!(resolve("a").unwrap().as_str(), "a1aaaaaaaaaa");
        assert_eq!(resolve("a3").unwrap().as_str(), "a3aaaaaaaaaa");
        assert_eq!(resolve("b").unwrap_err().kind, RefusalKind::NotFound);
    }

    #[test]
    fn survives_its_own_round_trip() {
        let empty = RegistryContents::empty();
        assert_eq!(RegistryContents::parse(&empty.to_bytes().unwrap()).unwrap(), empty);
    }
}
