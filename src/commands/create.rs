//! `mayfly create`.

use anyhow::{Context, Result};

use super::AppContext;
use super::build_progress::create_vm;
use super::flags::stray_word::StrayWord;
use super::flags::vm::VmFlags;
use super::pool::refill;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{
    self, CreateRequest, PhaseTimings, StartCaller, StartOptions, StreamPurpose, VmManager,
};
use crate::model::record::reason;
use crate::model::{VmName, VmRecord};
use crate::output::VmView;

/// Create a VM and print its id
///
/// Deletes expired VMs, builds the profile's image if it is missing, and reserves a VM. It uses no memory
/// or CPU until it is started. With --start it is started, or taken from the pool.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vm=$(mayfly create)                        keep its id in a variable
  mayfly create --name ci --ttl 30m --keep   named 'ci', kept after 'exec'
  mayfly create --label job=nightly --label commit=3f2a91
  mayfly create --profile debian-build --vcpus 2 --mem 4G
  mayfly create --image alpine:3.19          a container image
  mayfly create --start --name box           ready for 'exec' at once
  mayfly create --name web --publish 8080:80 --keep")]
pub struct Args {
    #[command(flatten)]
    vm: VmFlags,

    /// Keep the VM after 'exec', until it expires or 'rm' deletes it
    #[arg(long, env = "MAYFLY_KEEP")]
    keep: Option<bool>,

    /// Start the VM, and return when its agent answers
    ///
    /// Takes a VM from the pool if one of its kind waits. The VM is deleted if it does not start.
    #[arg(long)]
    start: bool,

    /// With --start, boot the VM instead of starting it from a template
    #[arg(long, env = "MAYFLY_COLD", hide_short_help = true)]
    cold: bool,

    #[command(flatten)]
    stray: StrayWord,
}

pub fn serve(app: &AppContext, mut args: Args) -> Result<u8> {
    args.stray.check(app, "create", |word| match (word, word.parse::<VmName>()) {
        ("no" | "false" | "off" | "0", _) => "'--keep=no' needs the '='".into(),
        (_, Ok(name)) => format!("'mayfly create --name {name}' names the VM"),
        (_, Err(_)) => "'--name' names the VM, '-p' its profile".into(),
    })?;
    let app = &args.vm.provide_image(app)?;
    let request = args.vm.into_request(args.keep, None)?;
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let record = if args.start {
        started(app, &manager, &request, args.cold, &mut signals)?
    } else {
        create_vm(app, &manager, &request, &mut signals)?.into_record()
    };
    let id = record.id();
    let printed = app.printer.answer(&VmView::from(&record), id.as_str());
    printed.or_else(|error| {
        let undone = "the VM is deleted again, because its id cannot be printed";
        lifecycle::remove(&manager, id, reason::ABANDONED)
            .with_context(|| format!("cannot delete VM {id}, whose id cannot be printed"))?;
        Err(error.context(undone))
    })?;
    if args.start {
        refill(app, &manager, &record, &request);
    }
    Ok(0)
}

fn started(
    app: &AppContext,
    manager: &VmManager,
    request: &CreateRequest,
    cold: bool,
    signals: &mut PendingSignals,
) -> Result<VmRecord> {
    let mut timings = PhaseTimings::begin();
    let mut remark = |remark| app.printer.remark(&remark);
    let mut caller = StartCaller { signals, timings: &mut timings, remark: &mut remark };
    let options = StartOptions { cold, purpose: StreamPurpose::Control };
    let create = |signals: &mut PendingSignals, pool| {
        create_vm(app, manager, &CreateRequest { pool, ..request.clone() }, signals)
    };
    let record = lifecycle::create_started(manager, options, &mut caller, create)?;
    app.printer.timings(&timings);
    Ok(record)
}
