//! What was deleted, as `--json` prints it.

use serde::Serialize;

use crate::lifecycle::{RemovalReport, RemovedThing};
use crate::model::record::reason;

/// Something that was deleted or had been gone already, or that would be deleted without `--dry-run`. Exactly one of
/// `vm_id`, `profile`, `template` and `leftover` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemovalView {
    /// A VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    vm_id: Option<String>,
    /// The image of this profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    /// What belongs to none of these: a path, or a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    leftover: Option<String>,
    deleted: bool,
    /// `explicit_delete`: as asked for; `post_exec_cleanup`: its command has ended; `expired`; `abandoned`: what
    /// needed it was killed; `unused`: no VM was started from it for long; `image_gone`: it is the template of an image
    /// that was deleted or replaced; `not_needed`: by any VM or profile; or `absent`: it had been gone already.
    reason: String,
}

impl RemovalView {
    /// A VM that had been gone already, as the user named it.
    pub fn absent_vm(named: &str) -> RemovalView {
        RemovalView { vm_id: Some(named.to_owned()), ..RemovalView::of(false, reason::ABSENT) }
    }

    fn of(deleted: bool, reason: &str) -> RemovalView {
        let (vm_id, profile, template, leftover) = (None, None, None, None);
        RemovalView { vm_id, profile, template, leftover, deleted, reason: reason.to_owned() }
    }
}

impl From<&RemovalReport> for RemovalView {
    fn from(report: &RemovalReport) -> RemovalView {
        let view = RemovalView::of(report.deleted, &report.reason);
        let name = Some(report.what.name().to_owned());
        match report.what {
            RemovedThing::Vm(_) => RemovalView { vm_id: name, ..view },
            RemovedThing::Image(_) => RemovalView { profile: name, ..view },
            RemovedThing::Template(_) => RemovalView { template: name, ..view },
            RemovedThing::Leftover(_) => RemovalView { leftover: name, ..view },
        }
    }
}

/// What `reap` deleted, or with `--dry-run` would delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReapView {
    deleted_vm_ids: Vec<String>,
    /// The number of these VMs.
    count: usize,
    /// Everything: VMs, templates, and what crashes left.
    deletions: Vec<RemovalView>,
    /// Whether nothing was changed.
    dry_run: bool,
    /// How many VMs `--rebuild` put into the registry; `null` without it.
    rebuilt_count: Option<usize>,
}

impl ReapView {
    pub fn new(removed: &[RemovalReport], dry_run: bool, rebuilt_count: Option<usize>) -> ReapView {
        let deletions: Vec<RemovalView> = removed.iter().map(RemovalView::from).collect();
        let deleted_vm_ids: Vec<String> =
            deletions.iter().filter_map(|view| view.vm_id.clone()).collect();
        ReapView { count: deleted_vm_ids.len(), deleted_vm_ids, deletions, dry_run, rebuilt_count }
    }
}

/// What `image prune` deleted, or with `--dry-run` would delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PruneView {
    /// Images, templates, and what killed builds left.
    deletions: Vec<RemovalView>,
    /// The disk space that this freed, or would free.
    bytes: u64,
    /// Whether nothing was changed.
    dry_run: bool,
}

impl PruneView {
    pub fn new(removed: &[RemovalReport], bytes: u64, dry_run: bool) -> PruneView {
        PruneView { deletions: removed.iter().map(RemovalView::from).collect(), bytes, dry_run }
    }
}
