//! `mayfly wait`.

use std::time::Instant;

use anyhow::Result;

use super::AppContext;
use super::flags::selection::VmSelection;
use crate::lifecycle::{self, WaitGoal};
use crate::model::TimeSpan;
use crate::output::WaitView;

/// Wait until VMs have ended, or started
///
/// By default, returns when none of them is running: each has stopped, expired, been deleted, or was never
/// started. If a VM has not reached the state within --timeout, the exit code is 4.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly wait ci
  mayfly wait --timeout 10m --label job=nightly
  mayfly wait --for started ci && mayfly exec ci -- make test")]
pub struct Args {
    #[command(flatten)]
    vms: VmSelection,

    /// What to wait for
    ///
    /// When waiting for a start, a VM that expires or is deleted is an error with exit code 3.
    #[arg(long = "for", value_name = "STATE", value_enum, default_value_t = WaitGoal::Ended)]
    goal: WaitGoal,

    /// Wait no longer than DURATION for all of them together
    #[arg(long, value_name = "DURATION")]
    timeout: Option<TimeSpan>,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout.0));
    let manager = app.open()?;
    args.vms.each(
        app,
        &manager,
        "wait for",
        |_| true,
        |id, _| {
            let id = id?;
            let reached = lifecycle::wait(&manager, &id, args.goal, deadline)?;
            Ok(Some(WaitView::new(&id, &reached)))
        },
    )
}
