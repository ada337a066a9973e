//! The flags for the VMs a verb works on, shared by verbs that take several: those named, or all that match.

use anyhow::Result;
use clap::{ArgGroup, Args};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::commands::each::{DoneForm, each_done};
use crate::lifecycle::{self, VmManager};
use crate::model::{LabelQuery, Refusal, RefusalKind, StatusFilter, VmId, VmRecord, VmRef};

#[derive(Debug, Args)]
pub struct VmSelection {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(
        required_unless_present = SELECTION, conflicts_with_all = SELECTION_FLAGS, value_name = "VM",
        add = ArgValueCompleter::new(candidates::vms)
    )]
    vms: Vec<VmRef>,

    #[command(flatten)]
    all: SelectionFlags,
}

/// The group of the flags that select VMs without naming them, and its members, with which no VM can be named.
pub const SELECTION: &str = "selection";
pub const SELECTION_FLAGS: [&str; 3] = ["all", "labels", "filters"];

/// The flags that select VMs without naming them.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new(SELECTION).args(SELECTION_FLAGS).multiple(true))]
pub struct SelectionFlags {
    /// Select all VMs instead of naming them
    #[arg(long)]
    all: bool,

    /// Select all VMs with this label; may be given several times
    #[arg(
        long = "label", value_name = "KEY[=VALUE]",
        add = ArgValueCompleter::new(candidates::labels)
    )]
    labels: Vec<LabelQuery>,

    /// Select all VMs that match; may be given several times
    ///
    /// KEY is one of those that 'status --filter' accepts. A VM must match all labels and filters.
    #[arg(
        long = "filter", value_name = "KEY=VALUE",
        add = ArgValueCompleter::new(candidates::filters)
    )]
    filters: Vec<StatusFilter>,
}

impl SelectionFlags {
    /// Whether VMs are selected without naming them.
    pub fn is_given(&self) -> bool {
        self.all || !self.labels.is_empty() || !self.filters.is_empty()
    }

    /// The VMs that match all filters, oldest first.
    pub fn find(&self, manager: &VmManager) -> Result<Vec<VmRecord>> {
        let mut filters = self.filters.clone();
        filters.extend(self.labels.iter().cloned().map(StatusFilter::Label));
        lifecycle::status_all(manager, &filters)
    }
}

impl VmSelection {
    /// The VMs that are named, or if none is, those that the flags select.
    pub fn of(vms: Vec<VmRef>, all: SelectionFlags) -> VmSelection {
        VmSelection { vms, all }
    }

    /// Calls `act` with the id of each VM, or the reason why there is no such VM, and its name or id as the
    /// user typed it, and prints what it returns; otherwise as [`each_done`]. Without names, only VMs for which
    /// `is_eligible` is true are selected, and a VM that another command deletes meanwhile is skipped. If no VM
    /// is left, a note says that there is none to `verb`.
    pub fn each<T: Serialize>(
        &self,
        app: &AppContext,
        manager: &VmManager,
        verb: &str,
        is_eligible: impl Fn(&VmRecord) -> bool,
        mut act: impl FnMut(Result<VmId>, &str) -> Result<Option<T>>,
    ) -> Result<u8> {
        if !self.all.is_given() {
            // All are resolved first, so that acting on one cannot change what the next one stands for.
            let found: Vec<_> =
                self.vms.iter().map(|vm| (vm.as_str(), manager.resolve(vm))).collect();
            return each_done(app, DoneForm::Lines, found, |id, named| act(id, named));
        }
        let mut found = self.all.find(manager)?;
        found.retain(is_eligible);
        if found.is_empty() && !app.printer.style.json {
            app.printer.note(&format!("mayfly: no VM to {verb}"));
        }
        let found = found.iter().map(|vm| (vm.manifest.display_name(), vm.id()));
        each_done(app, DoneForm::Array, found, |id, named| {
            act(Ok(id.clone()), named)
                .or_else(|error| if is_absent(&error) { Ok(None) } else { Err(error) })
        })
    }
}

/// Whether an error says that there is no such VM.
pub fn is_absent(error: &anyhow::Error) -> bool {
    Refusal::is_of_kind(error, RefusalKind::NotFound)
}
