//! What `inspect` prints: everything about one VM.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::escape::escape;
use super::layout::{CellFit, TableCell, TableLayout, TableShape};
use super::network_view::{network_text, port_line};
use super::table::{ago, size};
use super::view::VmView;
use crate::lifecycle::VmInspection;
use crate::model::{TimeSpan, VmPhase, VmRecord};

/// Everything about one VM. It has the fields of a VM, and more.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InspectionView {
    #[serde(flatten)]
    vm: VmView,
    /// The time until `expires_at`; 0 if it has expired.
    left_seconds: f64,
    /// When its VMM was started; `null` if it is not running.
    started_at: Option<f64>,
    /// The template it was started from; `null` if it booted or is not running.
    template: Option<String>,
    /// The process of its VMM.
    vmm_pid: Option<i32>,
    /// The host user that its VMM runs as, if that is not you.
    vmm_uid: Option<u32>,
    /// Whether its VMM runs in Firecracker's jailer.
    jailed: bool,
    /// Whether it can run VMs.
    nested: bool,
    /// The process that connects it to the network.
    network_pid: Option<i32>,
    /// The host user that this process runs as, if that is not you.
    network_uid: Option<u32>,
    /// Its own disk; `null` before its first start, and with `mock`.
    disk: Option<DiskView>,
    paths: VmPathsView,
}

/// The disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DiskView {
    /// What it takes on the host's disk.
    bytes: u64,
    /// Its size as the VM sees it.
    apparent_bytes: u64,
}

/// The files of a VM. Not all exist at all times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VmPathsView {
    /// Where its files are.
    directory: PathBuf,
    disk: PathBuf,
    console_log: PathBuf,
    vmm_log: PathBuf,
    /// What its network helper denied.
    network_log: PathBuf,
    /// Where its sockets are.
    sockets: PathBuf,
    /// The directory of its image; `null` if the image was deleted or replaced, and with `mock`.
    image: Option<PathBuf>,
}

impl From<&VmInspection> for InspectionView {
    fn from(found: &VmInspection) -> Self {
        let VmInspection { record, paths, .. } = found;
        let instance = record.state.instance();
        InspectionView {
            vm: VmView::from(record),
            left_seconds: record.expiry.remaining(&found.now).max(0.0),
            started_at: found.started_at,
            template: instance.and_then(|instance| instance.template.clone()),
            vmm_pid: instance.map(|instance| instance.process.pid),
            vmm_uid: record.manifest.vmm_uid,
            jailed: record.manifest.jailed,
            nested: record.manifest.nested,
            network_pid: network_pid(record),
            network_uid: record.manifest.network_uid,
            disk: found
                .disk
                .map(|usage| DiskView { bytes: usage.bytes, apparent_bytes: usage.apparent_bytes }),
            paths: VmPathsView {
                directory: paths.dir.clone(),
                disk: paths.disk(),
                console_log: paths.console(),
                vmm_log: paths.vmm_log(),
                network_log: paths.network_log(),
                sockets: paths.run.clone(),
                image: found.image.clone(),
            },
        }
    }
}

fn network_pid(record: &VmRecord) -> Option<i32> {
    Some(record.state.instance()?.network.as_ref()?.process.pid)
}

/// Words on one line, if there are any.
fn list(words: impl Iterator<Item = String>, separator: &str) -> Option<String> {
    let text = words.collect::<Vec<_>>().join(separator);
    Some(escape(&text)).filter(|text| !text.is_empty())
}

const LINES: TableShape<2> = TableShape {
    columns: [("", CellFit::Whole), ("", CellFit::Text)],
    optional: &[],
    important: &[],
};

/// The same for people: a line for each thing that has a value.
pub fn inspection_text(layout: TableLayout, found: &VmInspection) -> String {
    let VmInspection { record, paths, now, .. } = found;
    let manifest = &record.manifest;
    let instance = record.state.instance();
    let left = record.expiry.remaining(now);
    let at = |unix: f64| {
        let time = UNIX_EPOCH + Duration::from_secs_f64(unix.max(0.0));
        humantime::format_rfc3339_seconds(time).to_string()
    };
    let since = |unix: f64| format!("{}, {}", at(unix), ago(now.unix - unix));
    let mib = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let expires = at(record.expiry.expires_at);
    let expires = if left > 0.0 {
        format!("{expires}, {} left", TimeSpan::from_seconds(left))
    } else {
        format!("{expires}, expired")
    };
    let host = match &record.state {
        VmPhase::Elsewhere { place } => Some(escape(&place.host)),
        _ => None,
    };
    let template = instance.and_then(|instance| instance.template.clone());
    let path = |path: PathBuf| Some(escape(&path.display().to_string()));
    let labels = manifest.labels.to_strings().join(" ");
    let metadata: Vec<String> =
        manifest.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let network = &manifest.network;
    let denied = record.network.denied;
    let denied = (denied > 0).then(|| format!("{denied} attempts since its start"));
    let jail = if manifest.jailed { ", in a jail" } else { "" };
    let lines: [(&str, Option<String>); 30] = [
        ("VM", Some(manifest.vm_id.to_string())),
        ("Name", manifest.name.as_ref().map(ToString::to_string)),
        ("State", Some(record.state.name().to_owned())),
        ("Last error", record.last_error().map(escape)),
        ("Host", host),
        ("Profile", Some(manifest.profile.to_string())),
        ("Labels", Some(escape(&labels)).filter(|labels| !labels.is_empty())),
        ("Size", Some(size(manifest.vcpu_count, manifest.mem_mib))),
        ("Runs on", Some(format!("{}/{}{jail}", manifest.backend, manifest.accelerator))),
        ("Isolation", Some(manifest.isolation().to_string())),
        ("Nested VMs", manifest.nested.then(|| "yes".into())),
        ("Network", Some(network_text(record))),
        ("Allowed", list(network.allow.iter().map(ToString::to_string), " ")),
        ("Published", list(record.published().iter().map(port_line), ", ")),
        ("Denied", denied),
        ("Keep", Some(if manifest.keep { "yes" } else { "no: exec deletes it" }.into())),
        ("Created", Some(since(manifest.created_at))),
        ("Started", found.started_at.map(since)),
        (
            "From",
            instance.map(|_| template.map_or("booted".into(), |name| format!("template {name}"))),
        ),
        ("Expires", Some(expires)),
        ("VMM", instance.map(|instance| format!("process {}", instance.process.pid))),
        ("Helper", network_pid(record).map(|pid| format!("process {pid}, for its network"))),
        ("Image", found.image.clone().and_then(path)),
        ("Digest", Some(manifest.image.clone()).filter(|digest| !digest.is_empty())),
        ("Disk", found.disk.and_then(|_| path(paths.disk()))),
        (
            "On disk",
            found.disk.map(|disk| format!("{} of {}", mib(disk.bytes), mib(disk.apparent_bytes))),
        ),
        ("Console log", path(paths.console())),
        ("VMM log", path(paths.vmm_log())),
        ("Sockets", path(paths.run.clone())),
        ("Metadata", Some(escape(&metadata.join(" "))).filter(|text| !text.is_empty())),
    ];
    let rows = lines.into_iter().filter_map(|(title, text)| Some([title.into(), text?.into()]));
    layout.rows(&LINES, &rows.collect::<Vec<[TableCell; 2]>>()).split_off(1).join("\n")
}
