//! VMs, images and so on, as `--json` prints them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::escape::{escape, escape_lines};
use super::exec_answer::encode;
use crate::archive::CopyTally;
use crate::host::directory::DiskUsage;
use crate::image::{FileInfo, ImageInfo};
use crate::lifecycle::LogKind;
use crate::model::{
    Accelerator, BackendKind, ImageRecipe, ImportRecipe, Isolation, VmId, VmLabels, VmName,
    VmPhase, VmRecord,
};
use crate::template::{ListedTemplate, TemplateInfo};

/// A VM. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmView<'a> {
    vm_id: &'a VmId,
    profile: &'a str,
    vcpu_count: u32,
    mem_mib: u32,
    ttl_seconds: u64,
    created_at: f64,
    expires_at: f64,
    state: &'static str,
    metadata: &'a BTreeMap<String, String>,
    name: Option<&'a VmName>,
    backend: BackendKind,
    accelerator: Accelerator,
    isolation: Isolation,
    keep: bool,
    last_error: Option<String>,
    labels: &'a VmLabels,
    /// The host that an `elsewhere` VM belongs to, else `null`.
    host: Option<String>,
}

impl<'a> From<&'a VmRecord> for VmView<'a> {
    fn from(record: &'a VmRecord) -> Self {
        let manifest = &record.manifest;
        VmView {
            vm_id: &manifest.vm_id,
            profile: manifest.profile.as_str(),
            vcpu_count: manifest.vcpu_count,
            mem_mib: manifest.mem_mib,
            ttl_seconds: manifest.ttl_seconds,
            created_at: manifest.created_at,
            expires_at: record.expiry.expires_at,
            state: record.state.name(),
            metadata: &manifest.metadata,
            name: manifest.name.as_ref(),
            backend: manifest.backend,
            accelerator: manifest.accelerator,
            isolation: manifest.isolation(),
            keep: manifest.keep,
            last_error: record.last_error().map(escape_lines),
            labels: &manifest.labels,
            host: match &record.state {
                VmPhase::Elsewhere { place } => Some(escape(&place.host)),
                _ => None,
            },
        }
    }
}

/// A copy. The numbers are not known for an archive that is sent to a VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopyView<'a> {
    vm_id: &'a VmId,
    source: &'a str,
    destination: &'a str,
    files: Option<u64>,
    directories: Option<u64>,
    links: Option<u64>,
    bytes: Option<u64>,
    /// The number of things that were not copied because of their kind, and the first of them.
    skipped_count: Option<u64>,
    skipped: Vec<SkippedView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct SkippedView {
    name: String,
    kind: &'static str,
}

impl<'a> CopyView<'a> {
    pub fn new(
        vm_id: &'a VmId,
        source: &'a str,
        destination: &'a str,
        tally: Option<&CopyTally>,
    ) -> Self {
        let skipped = tally.into_iter().flat_map(|tally| &tally.skipped);
        CopyView {
            vm_id,
            source,
            destination,
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

/// An image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageView<'a> {
    profile: &'a str,
    id: String,
    suite: Option<&'a str>,
    /// Its origin, if it was not built here.
    imported: Option<&'a ImportRecipe>,
    kernel_release: &'a str,
    built_at: f64,
    /// The lengths of the files.
    apparent_bytes: u64,
    /// The disk space that the files take; they are sparse.
    disk_bytes: u64,
    /// Each file's length and digest.
    files: &'a BTreeMap<String, FileInfo>,
}

impl<'a> ImageView<'a> {
    pub fn new(info: &'a ImageInfo, usage: DiskUsage) -> Self {
        ImageView {
            profile: info.profile.as_str(),
            id: info.id(),
            suite: info.recipe.debian().map(|recipe| recipe.suite.as_str()),
            imported: match &info.recipe {
                ImageRecipe::Imported(import) => Some(import),
                ImageRecipe::Debian(_) => None,
            },
            kernel_release: &info.kernel_release,
            built_at: info.built_at,
            apparent_bytes: usage.apparent_bytes,
            disk_bytes: usage.bytes,
            files: &info.files,
        }
    }
}

/// A template. If it is damaged, only its name, size and last use are known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TemplateView<'a> {
    name: &'a str,
    damaged: bool,
    profile: Option<&'a str>,
    /// The id of its image.
    image: Option<&'a str>,
    backend: Option<BackendKind>,
    accelerator: Option<Accelerator>,
    vcpu_count: Option<u32>,
    mem_mib: Option<u32>,
    vmm_version: Option<String>,
    /// The disk space that the files take; they are sparse.
    disk_bytes: u64,
    made_at: Option<f64>,
    last_used_at: f64,
}

impl<'a> TemplateView<'a> {
    pub fn new(listed: &'a ListedTemplate) -> Self {
        let info: Option<&TemplateInfo> = listed.info.as_ref();
        TemplateView {
            name: &listed.name,
            damaged: info.is_none(),
            profile: info.map(|info| info.profile.as_str()),
            image: info.map(|info| info.image.as_str()),
            backend: info.map(|info| info.backend),
            accelerator: info.map(|info| info.accelerator),
            vcpu_count: info.map(|info| info.vcpu_count),
            mem_mib: info.map(|info| info.mem_mib),
            vmm_version: info.map(|info| escape(&info.vmm_version)),
            disk_bytes: listed.bytes,
            made_at: info.map(|info| info.made_at),
            last_used_at: listed.last_used,
        }
    }
}

/// A log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogView<'a> {
    vm_id: &'a VmId,
    log: &'static str,
    text: String,
    /// `utf-8`, or `base64` if the text is not UTF-8.
    text_encoding: &'static str,
}

impl<'a> LogView<'a> {
    pub fn new(vm_id: &'a VmId, log: LogKind, bytes: Vec<u8>) -> Self {
        let log = match log {
            LogKind::Console => "console",
            LogKind::Vmm => "vmm",
        };
        let (text, text_encoding) = encode(bytes);
        LogView { vm_id, log, text, text_encoding }
    }
}
