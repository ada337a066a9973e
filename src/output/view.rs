//! VMs and what is done with them, as `--json` prints them.
//!
//! With these types, fields have the same names and types in all verbs. docs/json.md is generated from them, and
//! from the comments of their fields.

use std::collections::BTreeMap;

use serde::Serialize;

use super::escape::{escape, escape_lines};
use super::exec_answer::encode;
use super::network_view::NetworkView;
use crate::archive::CopyTally;
use crate::lifecycle::{LogKind, WaitOutcome};
use crate::model::{Accelerator, BackendKind, Isolation, VmId, VmPhase, VmRecord};

/// A VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VmView {
    /// 12 hexadecimal digits.
    vm_id: String,
    profile: String,
    vcpu_count: u32,
    /// MiB of memory.
    mem_mib: u32,
    /// MiB of its own disk; `null` with `mock`.
    disk_mib: Option<u32>,
    /// From `created_at` to `expires_at`; grows with `extend`.
    ttl_seconds: u64,
    created_at: f64,
    expires_at: f64,
    /// `creating`, `created`, `starting`, `started`, `stopping`, `stopped`, `removing`; `pooled`: it waits in the
    /// pool; or `elsewhere`: it belongs to another host or container, which `host` names.
    state: &'static str,
    /// What mayfly notes about the VM.
    metadata: BTreeMap<String, String>,
    /// As given with `--name` or `rename`.
    name: Option<String>,
    backend: BackendKind,
    accelerator: Accelerator,
    isolation: Isolation,
    /// Whether `exec` keeps it.
    keep: bool,
    /// Why it stopped, or why a started VM waits.
    last_error: Option<String>,
    labels: BTreeMap<String, String>,
    /// The host of a VM that is `elsewhere`.
    host: Option<String>,
    /// The digest of the image it was created from; `null` with `mock`.
    image_digest: Option<String>,
    network: NetworkView,
}

impl From<&VmRecord> for VmView {
    fn from(record: &VmRecord) -> Self {
        let manifest = &record.manifest;
        VmView {
            vm_id: manifest.vm_id.to_string(),
            profile: manifest.profile.to_string(),
            vcpu_count: manifest.vcpu_count,
            mem_mib: manifest.mem_mib,
            disk_mib: manifest.disk_mib,
            ttl_seconds: manifest.ttl_seconds,
            created_at: manifest.created_at,
            expires_at: record.expiry.expires_at,
            state: record.state.name(),
            metadata: manifest.metadata.clone(),
            name: manifest.name.as_ref().map(ToString::to_string),
            backend: manifest.backend,
            accelerator: manifest.accelerator,
            isolation: manifest.isolation(),
            keep: manifest.keep,
            last_error: record.last_error().map(escape_lines),
            labels: manifest.labels.clone().into(),
            host: match &record.state {
                VmPhase::Elsewhere { place } => Some(escape(&place.host)),
                _ => None,
            },
            image_digest: Some(manifest.image.clone()).filter(|digest| !digest.is_empty()),
            network: NetworkView::from(record),
        }
    }
}

/// A VM that has reached the state it was waited for in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WaitView {
    vm_id: String,
    /// A state of a VM, or `expired` or `removed`.
    state: &'static str,
    /// Why it stopped.
    last_error: Option<String>,
}

impl WaitView {
    pub fn new(vm_id: &VmId, reached: &WaitOutcome) -> WaitView {
        let (state, record) = match reached {
            WaitOutcome::Reached(record) => (record.state.name(), Some(record)),
            WaitOutcome::Expired(record) => ("expired", Some(record)),
            WaitOutcome::Removed => ("removed", None),
        };
        let last_error = record.and_then(|record| record.last_error().map(escape_lines));
        WaitView { vm_id: vm_id.to_string(), state, last_error }
    }
}

/// A copy. The numbers are `null` for an archive that is sent to a VM, because mayfly does not look into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CopyView {
    vm_id: String,
    /// As typed.
    source: String,
    /// As typed.
    destination: String,
    files: Option<u64>,
    directories: Option<u64>,
    links: Option<u64>,
    /// The contents of all files.
    bytes: Option<u64>,
    /// How many things were left out because of their kind.
    skipped_count: Option<u64>,
    /// The first of them.
    skipped: Vec<SkippedView>,
}

/// Something that a copy left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SkippedView {
    /// Its path.
    name: String,
    /// What it is.
    kind: &'static str,
}

impl CopyView {
    pub fn new(vm_id: &VmId, source: &str, destination: &str, tally: Option<&CopyTally>) -> Self {
        let skipped = tally.into_iter().flat_map(|tally| &tally.skipped);
        CopyView {
            vm_id: vm_id.to_string(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            files: tally.map(|tally| tally.files),
            directories: tally.map(|tally| tally.directories),
            links: tally.map(|tally| tally.links),
            bytes: tally.map(|tally| tally.bytes),
            skipped_count: tally.map(|tally| tally.skipped_count),
            skipped: skipped
                .map(|(name, kind)| SkippedView { name: name.to_string(), kind })
                .collect(),
        }
    }
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LogView {
    vm_id: String,
    /// `console` or `vmm`.
    log: &'static str,
    text: String,
    /// `utf-8`, or `base64` if the text is not UTF-8.
    text_encoding: &'static str,
}

impl LogView {
    pub fn new(vm_id: &VmId, log: LogKind, bytes: Vec<u8>) -> Self {
        let log = match log {
            LogKind::Console => "console",
            LogKind::Vmm => "vmm",
            LogKind::Network => "network",
        };
        let (text, text_encoding) = encode(bytes);
        LogView { vm_id: vm_id.to_string(), log, text, text_encoding }
    }
}
