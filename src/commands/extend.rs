//! `mayfly extend`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::flags::selection::{SelectionFlags, VmSelection};
use crate::host::clock;
use crate::lifecycle;
use crate::model::{Refusal, TimeSpan, VmRef};
use crate::output::VmView;

/// Give VMs more time
///
/// A VM expires DURATION from now, unless it already had longer to live. 'limits.ttl_seconds' limits
/// DURATION as it limits a TTL. A running guest is informed, because it powers itself off when its time is
/// up.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly extend ci 30m                    it expires in 30 minutes
  mayfly extend web db 1h
  mayfly extend --label job=nightly 1h")]
#[command(
    override_usage = "mayfly extend [OPTIONS] VM... DURATION\n       mayfly extend [OPTIONS] --all|--label KEY[=VALUE] DURATION"
)]
pub struct Args {
    /// Names or ids of VMs, and last the time from now, such as 90s or 1h; a bare number is seconds
    #[arg(
        required = true, value_name = "VM|DURATION",
        add = ArgValueCompleter::new(candidates::vms_and_ttls)
    )]
    words: Vec<String>,

    #[command(flatten)]
    all: SelectionFlags,
}

/// The VMs and the duration.
///
/// # Errors
/// `Usage` if one is missing, or not what it should be.
fn operands(words: &[String], all: &SelectionFlags) -> Result<(Vec<VmRef>, TimeSpan), Refusal> {
    let (last, vms) = words.split_last().ok_or_else(|| Refusal::usage("no duration is given"))?;
    let duration = last.parse::<TimeSpan>();
    if let (true, Some(vm)) = (all.is_given(), vms.first()) {
        let message = format!("{vm:?} cannot be used with --all, --label or --filter");
        return Err(Refusal::usage(message).hint("name VMs, or select them"));
    }
    if vms.is_empty() && !all.is_given() {
        return Err(if duration.is_ok() {
            Refusal::usage("no VM is given")
                .hint(format!("name it before the duration, as in 'mayfly extend VM {last}'"))
        } else {
            Refusal::usage("no duration is given")
                .hint(format!("write it last, as in 'mayfly extend {last} 30m'"))
        });
    }
    let vms = vms.iter().map(|vm| vm.parse()).collect::<Result<_, _>>()?;
    Ok((vms, duration?))
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let (vms, duration) = operands(&args.words, &args.all)?;
    let (manager, now) = (app.open()?, clock::now()?);
    VmSelection::of(vms, args.all).each(
        app,
        &manager,
        "extend",
        |vm| !vm.has_expired(&now),
        |id, named| {
            let record = lifecycle::extend(&manager, &id?, duration)?;
            let left = TimeSpan::from_seconds(record.expiry.remaining(&clock::now()?));
            app.printer.note_on_terminal(&format!("mayfly: {named} has {left} left"));
            Ok(Some(VmView::from(&record)))
        },
    )
}
