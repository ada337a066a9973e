//! The VMs a verb works on, shared by those that take several: named, or all that fulfil conditions.

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::commands::each::each;
use crate::lifecycle::{self, VmManager};
use crate::model::{LabelQuery, Refusal, RefusalKind, StatusFilter, VmId, VmRecord, VmRef};

#[derive(Debug, Args)]
pub struct VmSelection {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(
        required_unless_present = "all", value_name = "VM",
        add = ArgValueCompleter::new(candidates::vms)
    )]
    vms: Vec<VmRef>,

    #[command(flatten)]
    all: SelectionFlags,
}

/// The flags that stand for VMs without naming them.
#[derive(Debug, Args)]
pub struct SelectionFlags {
    /// Select all VMs instead of naming them
    #[arg(long, conflicts_with = "vms")]
    pub all: bool,

    /// With --all: only VMs with this label; may be given several times
    #[arg(
        long = "label", value_name = "KEY[=VALUE]", requires = "all", conflicts_with = "vms",
        add = ArgValueCompleter::new(candidates::labels)
    )]
    labels: Vec<LabelQuery>,

    /// With --all: only VMs that match; may be given several times
    ///
    /// KEY is one of those that 'status --filter' accepts.
    #[arg(
        long = "filter", value_name = "KEY=VALUE", requires = "all", conflicts_with = "vms",
        add = ArgValueCompleter::new(candidates::filters)
    )]
    filters: Vec<StatusFilter>,
}

impl SelectionFlags {
    /// Those VMs of all that fulfil every condition, oldest first, as they are now.
    pub fn find(&self, manager: &VmManager) -> Result<Vec<VmRecord>> {
        let mut filters = self.filters.clone();
        filters.extend(self.labels.iter().cloned().map(StatusFilter::Label));
        lifecycle::status_all(manager, &filters)
    }
}

impl VmSelection {
    /// Calls `act` with the id of every one, if there is such a VM, and the word for it. As [`each`], and with `--all` only for
    /// those of which `concerned` says so; one that somebody else deletes meanwhile is then none of
    /// `--all`. Where there is none, it says that there is none to `verb`, which is a success.
    pub fn each(
        &self,
        app: &AppContext,
        manager: &VmManager,
        verb: &str,
        concerned: impl Fn(&VmRecord) -> bool,
        mut act: impl FnMut(Result<VmId>, &str) -> Result<()>,
    ) -> Result<u8> {
        if !self.all.all {
            // All before the first: what the one does must not change what the next is.
            let found: Vec<_> = self.vms.iter().map(|vm| (manager.resolve(vm), vm)).collect();
            return each(app, found, |(id, vm)| act(id, vm.as_str()));
        }
        let mut found = self.all.find(manager)?;
        found.retain(concerned);
        if found.is_empty() {
            app.printer.note(&format!("mayfly: no VM to {verb}"));
        }
        each(app, &found, |vm| {
            act(Ok(vm.id().clone()), vm.manifest.called())
                .or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })
        })
    }
}

/// Whether an error says that there is no such VM, or none any more.
pub fn is_absent(error: &anyhow::Error) -> bool {
    Refusal::is_of_kind(error, RefusalKind::NotFound)
}
