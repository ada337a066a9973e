//! `mayfly status`.

mod watch;

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::commands::each::each;
use crate::host::clock;
use crate::lifecycle::{self, VmManager};
use crate::model::{LabelQuery, StatusFilter, StatusSort, VmRecord, VmRef};
use crate::output::{VmView, status_rows};

/// List all VMs, or the ones named
///
/// VMs that wait in the pool are listed only with --all. An expired VM that is named is deleted and reported as an error. The list of all VMs shows which have
/// expired and changes nothing. With -q, only ids are printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly status
  mayfly status ci
  mayfly status --filter state=started --label job=nightly --sort=-mem
  mayfly status --all               with the VMs that wait in the pool
  mayfly status --watch
  mayfly status -q --filter 'name=ci-*' | xargs -r mayfly stop
  mayfly status --json | jq -r '.[] | select(.state == \"started\").vm_id'")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vms: Vec<VmRef>,

    /// List only VMs that match; may be given several times
    ///
    /// KEY is state, profile, backend, name or label. In a name, '*' matches anything. A label is written
    /// label=KEY=VALUE, or label=KEY for any value. A VM must match all filters.
    #[arg(
        long = "filter", value_name = "KEY=VALUE", conflicts_with = "vms",
        add = ArgValueCompleter::new(candidates::filters)
    )]
    filters: Vec<StatusFilter>,

    /// List only VMs with this label; may be given several times
    #[arg(
        long = "label", value_name = "KEY[=VALUE]", conflicts_with = "vms",
        add = ArgValueCompleter::new(candidates::labels)
    )]
    labels: Vec<LabelQuery>,

    /// List also the VMs of the pool
    #[arg(long, conflicts_with = "vms")]
    all: bool,

    /// Sort by KEY, or by -KEY in reverse
    ///
    /// KEY is created, left, id, name, profile, state, backend, cpus or mem.
    #[arg(
        long, value_name = "KEY", default_value = "created", allow_hyphen_values = true,
        conflicts_with = "vms", add = ArgValueCompleter::new(candidates::sort_keys)
    )]
    sort: StatusSort,

    /// Keep showing VMs as they change, until q or Ctrl-C
    ///
    /// On a terminal the list fills the screen. Elsewhere it is reprinted when anything but the time left
    /// changes: after an empty line, or with --json as an array on its own line. Expired VMs are only shown,
    /// never deleted, even if you name them.
    #[arg(short, long)]
    watch: bool,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open_to_read()?;
    if args.watch {
        let named = args.vms.iter().map(|vm| manager.resolve(vm)).collect::<Result<Vec<_>>>()?;
        let is_named = |vm: &VmRecord| args.vms.is_empty() || named.iter().any(|id| id == vm.id());
        return watch::serve(app, &manager, || {
            let mut all = list(&manager, &args)?;
            all.retain(is_named);
            Ok(all)
        });
    }
    if args.vms.is_empty() {
        let all = list(&manager, &args)?;
        if app.printer.style.json {
            app.printer.json(&all.iter().map(VmView::from).collect::<Vec<_>>())?;
        } else {
            show(app, &all)?;
        }
        // The program ends now, and freeing a thousand records one by one would take a millisecond.
        std::mem::forget(all);
        return Ok(0);
    }
    let mut found = Vec::new();
    let code = each(app, &args.vms, |vm| {
        found.push(lifecycle::status(&manager, vm)?);
        Ok(())
    })?;
    if app.printer.style.json {
        found.iter().try_for_each(|record| app.printer.json(&VmView::from(record)))?;
    } else if !found.is_empty() {
        show(app, &found)?;
    }
    Ok(code)
}

fn list(manager: &VmManager, args: &Args) -> Result<Vec<VmRecord>> {
    let labels = args.labels.iter().cloned().map(StatusFilter::Label);
    let filters: Vec<_> = args.filters.iter().cloned().chain(labels).collect();
    let list = if args.all { lifecycle::status_everything } else { lifecycle::status_all };
    let mut all = list(manager, &filters)?;
    args.sort.apply(&mut all, &clock::now()?);
    Ok(all)
}

fn show(app: &AppContext, records: &[VmRecord]) -> Result<()> {
    if app.printer.style.quiet && records.is_empty() {
        return Ok(());
    }
    app.printer.data(&status_rows(app.printer, records, &clock::now()?).join("\n"))
}
