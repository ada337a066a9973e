//! What `df` prints: what mayfly takes on the disk, and what could be deleted.

use serde::Serialize;

use super::escape::escape;
use super::layout::{CellFit, TableLayout, TableShape};
use super::table::table;
use crate::lifecycle::{DiskGroup, DiskItem, DiskKind, RemovedThing};

/// What mayfly takes on the disk. Files with several names count once; blocks that files share on btrfs or XFS count
/// for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskUseView {
    /// Everything together.
    bytes: u64,
    /// What could be deleted of it.
    reclaimable_bytes: u64,
    groups: Vec<DiskGroupView>,
}

/// What the things of a kind take on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DiskGroupView {
    /// `images`, `templates`, `blobs` (downloads that images were made of), `vms`, `leftovers` (of crashes) or `other` (registry, reserve, locks and digests).
    kind: &'static str,
    count: usize,
    bytes: u64,
    /// What `reclaim_with` would delete of it.
    reclaimable_bytes: u64,
    /// The command that deletes what can be deleted of these things.
    reclaim_with: Option<&'static str>,
    items: Vec<DiskItemView>,
}

/// What a thing takes on the disk. Exactly one of `vm_id`, `profile`, `template` and `path` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DiskItemView {
    /// A VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    vm_id: Option<String>,
    /// The image of this profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    /// A file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    bytes: u64,
    /// Whether `reclaim_with` would delete it.
    reclaimable: bool,
}

impl From<&[DiskGroup]> for DiskUseView {
    fn from(groups: &[DiskGroup]) -> Self {
        DiskUseView {
            bytes: groups.iter().map(|group| group.bytes).sum(),
            reclaimable_bytes: groups.iter().map(reclaimable).sum(),
            groups: groups.iter().map(DiskGroupView::from).collect(),
        }
    }
}

impl From<&DiskGroup> for DiskGroupView {
    fn from(group: &DiskGroup) -> Self {
        DiskGroupView {
            kind: name(group.kind),
            count: group.items.len(),
            bytes: group.bytes,
            reclaimable_bytes: reclaimable(group),
            reclaim_with: command(group.kind),
            items: group.items.iter().map(DiskItemView::from).collect(),
        }
    }
}

impl From<&DiskItem> for DiskItemView {
    fn from(item: &DiskItem) -> Self {
        let (vm_id, profile, template, path) = (None, None, None, None);
        let (bytes, reclaimable) = (item.bytes, item.is_reclaimable);
        let view = DiskItemView { vm_id, profile, template, path, bytes, reclaimable };
        let name = Some(item.what.name().to_owned());
        match item.what {
            RemovedThing::Vm(_) => DiskItemView { vm_id: name, ..view },
            RemovedThing::Image(_) => DiskItemView { profile: name, ..view },
            RemovedThing::Template(_) => DiskItemView { template: name, ..view },
            RemovedThing::Leftover(_) => DiskItemView { path: name, ..view },
        }
    }
}

fn name(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Images => "images",
        DiskKind::Templates => "templates",
        DiskKind::Blobs => "blobs",
        DiskKind::Vms => "vms",
        DiskKind::Leftovers => "leftovers",
        DiskKind::Other => "other",
    }
}

fn command(kind: DiskKind) -> Option<&'static str> {
    match kind {
        DiskKind::Images => Some("mayfly image prune --all"),
        DiskKind::Blobs => Some("mayfly image prune"),
        DiskKind::Templates => Some("mayfly template rm --all"),
        DiskKind::Vms | DiskKind::Leftovers => Some("mayfly reap"),
        DiskKind::Other => None,
    }
}

fn reclaimable(group: &DiskGroup) -> u64 {
    group.items.iter().filter(|item| item.is_reclaimable).map(|item| item.bytes).sum()
}

const GROUPS: TableShape<5> = TableShape {
    columns: [
        ("WHAT", CellFit::Whole),
        ("COUNT", CellFit::Number),
        ("ON DISK", CellFit::Number),
        ("CAN BE FREED", CellFit::Number),
        ("BY", CellFit::Text),
    ],
    optional: &["COUNT"],
    important: &["BY"],
};

const ITEMS: TableShape<4> = TableShape {
    columns: [
        ("WHAT", CellFit::Whole),
        ("NAME", CellFit::Text),
        ("ON DISK", CellFit::Number),
        ("CAN BE FREED", CellFit::Whole),
    ],
    optional: &[],
    important: &["CAN BE FREED"],
};

/// A row for each kind, the sum, and with `--verbose` a row for each thing.
pub fn disk_use_text(layout: TableLayout, groups: &[DiskGroup], verbose: bool) -> String {
    let mib = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let row = |group: &DiskGroup| {
        let (count, freed) = (group.items.len(), reclaimable(group));
        let with = command(group.kind).filter(|_| freed > 0).unwrap_or("-");
        [name(group.kind).into(), count.to_string(), mib(group.bytes), mib(freed), with.into()]
    };
    let total = |of: fn(&DiskGroup) -> u64| mib(groups.iter().map(of).sum());
    let sum =
        ["all".into(), "-".into(), total(|group| group.bytes), total(reclaimable), "-".into()];
    let rows = groups.iter().map(row).chain([sum]);
    let mut text = table(layout, &GROUPS, rows);
    if verbose {
        let items = groups.iter().flat_map(|group| {
            let row = |item: &DiskItem| {
                let freed = if item.is_reclaimable { "yes" } else { "-" };
                [name(group.kind).into(), escape(&item.shown), mib(item.bytes), freed.into()]
            };
            group.items.iter().map(row)
        });
        text += "\n\n";
        text += &table(layout, &ITEMS, items);
    }
    text
}
