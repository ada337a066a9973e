//! `mayfly pool fill`, `ls` and `drain`.

mod fill;
mod refill;

pub use refill::refill;

use anyhow::Result;
use clap::Subcommand;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::each::{DoneForm, each_done};
use super::flags::machine::MachineFlags;
use super::flags::stray_word::StrayWord;
use crate::host::clock;
use crate::lifecycle;
use crate::output::{RemovalView, VmView, pool_table};

/// Keep started VMs waiting, so that 'run' starts at once
///
/// A VM in the pool has booted, has run one command, and waits. 'run' and 'create --start' take one if it is of the kind
/// that they need: same profile, size, backend and network, and no published ports. It then gets a new identity, as every
/// VM does, and another life. Otherwise they start a VM as usual, so the pool never makes anything wait.
///
/// Waiting VMs belong to no user and do not count as active VMs. They use memory, but next to no CPU, and end by
/// themselves after 10 minutes ('limits.pool_ttl_seconds').
///
/// With MAYFLY_POOL=N, or 'pool = N' in config.toml, each 'run' fills the pool up to N again in the background, after its
/// command has ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly pool fill -n 2              two VMs for the next two plain 'run'
  mayfly pool fill -p debian-build --mem 4G
  mayfly pool ls
  mayfly pool drain                  delete them all
  MAYFLY_POOL=2 mayfly run true      and keep two waiting from now on")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start VMs that wait for 'run', until N of the kind do
    ///
    /// Prints the id of each VM that it has started. Builds the profile's image and the template first if they are
    /// missing. Fails if the host would have less than 512 MiB of memory left.
    #[command(after_help = "\
Examples:
  mayfly pool fill                   one VM for the next plain 'run'
  mayfly pool fill -n 3 --allow example.org
  mayfly pool fill -p debian-build --vcpus 2 --mem 4G")]
    Fill {
        #[command(flatten)]
        machine: MachineFlags,

        /// Fill the pool up to N VMs of this kind; default: MAYFLY_POOL, or else 1
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<u32>,

        /// In the background, after a command: report errors only to the log.
        #[arg(long, hide = true)]
        refill: bool,

        #[command(flatten)]
        stray: StrayWord,
    },

    /// List the VMs that wait
    #[command(after_help = "\
Examples:
  mayfly pool ls
  mayfly pool ls --json | jq length")]
    Ls,

    /// Delete the VMs that wait
    ///
    /// A VM that a command is taking is not deleted.
    #[command(after_help = "\
Examples:
  mayfly pool drain
  mayfly pool drain -p debian-build")]
    Drain {
        /// Delete only those of PROFILE
        #[arg(
            short, long, value_name = "PROFILE", add = ArgValueCompleter::new(candidates::profiles)
        )]
        profile: Option<String>,
    },
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    match args.action {
        Action::Fill { machine, count, refill, stray } => {
            stray.check(app, "pool fill", |_| "'-p' names the profile, '-n' the number".into())?;
            let usual = app.settings.flags.pool.filter(|count| *count > 0).unwrap_or(1);
            let count = count.unwrap_or(usual);
            if refill {
                return refill::serve(app, machine, count);
            }
            fill::serve(app, machine, count as usize)
        }
        Action::Ls => list(app),
        Action::Drain { profile } => drain(app, profile.as_deref()),
    }
}

fn list(app: &AppContext) -> Result<u8> {
    let manager = app.open_to_read()?;
    let waiting = lifecycle::list_pool(&manager)?;
    let views: Vec<_> = waiting.iter().map(VmView::from).collect();
    let ids = waiting.iter().map(|record| record.id().as_str());
    let table = pool_table(app.printer.layout(), &waiting, &clock::now()?);
    app.printer.list(&views, ids, &table)?;
    if !app.printer.style.json
        && let Some(log) = refill::log_with_errors(&app.settings)
    {
        app.printer.note(&format!("mayfly: errors of refills are in {}", log.display()));
    }
    Ok(0)
}

fn drain(app: &AppContext, profile: Option<&str>) -> Result<u8> {
    if let Some(profile) = profile {
        app.settings.profile(profile)?;
    }
    let manager = app.open()?;
    let mut waiting = lifecycle::list_pool(&manager)?;
    waiting.retain(|vm| profile.is_none_or(|profile| vm.manifest.profile.as_str() == profile));
    let waiting = waiting.iter().map(|vm| (vm.id().as_str(), vm.id()));
    each_done(app, DoneForm::Array, waiting, |id, _| {
        Ok(lifecycle::drain(&manager, id)?.as_ref().map(RemovalView::from))
    })
}
