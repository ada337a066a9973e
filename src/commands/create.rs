//! `mayfly create`.

use anyhow::{Context, Result};

use super::AppContext;
use super::build_progress::create_vm;
use super::flags::stray_word::StrayWord;
use super::flags::vm::VmFlags;
use crate::host::signals::PendingSignals;
use crate::lifecycle;
use crate::model::VmName;
use crate::model::record::reason;
use crate::output::VmView;

/// Create a VM and print its id
///
/// Deletes expired VMs, builds the profile's image if it is missing, and reserves a VM. It uses no memory
/// or CPU until it is started.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vm=$(mayfly create)                        keep its id in a variable
  mayfly create --name ci --ttl 30m --keep   named 'ci', kept after 'exec'
  mayfly create --label job=nightly --label commit=3f2a91
  mayfly create --profile debian-build --vcpus 2 --mem 4G
  mayfly create --name web --publish 8080:80 --keep")]
pub struct Args {
    #[command(flatten)]
    vm: VmFlags,

    /// Keep the VM after 'exec', until it expires or 'rm' deletes it
    #[arg(long, env = "MAYFLY_KEEP")]
    keep: Option<bool>,

    #[command(flatten)]
    stray: StrayWord,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    args.stray.check(app, "create", |word| match (word, word.parse::<VmName>()) {
        ("no" | "false" | "off" | "0", _) => "'--keep=no' needs the '='".into(),
        (_, Ok(name)) => format!("'mayfly create --name {name}' names the VM"),
        (_, Err(_)) => "'--name' names the VM, '-p' its profile".into(),
    })?;
    let request = args.vm.into_request(args.keep, None)?;
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let record = create_vm(app, &manager, &request, &mut signals)?;
    let id = record.id();
    let printed = app.printer.answer(&VmView::from(&record), id.as_str());
    printed.or_else(|error| {
        let undone = "the VM is deleted again, because its id cannot be printed";
        lifecycle::remove(&manager, id, reason::ABANDONED)
            .with_context(|| format!("cannot delete VM {id}, whose id cannot be printed"))?;
        Err(error.context(undone))
    })?;
    Ok(0)
}
