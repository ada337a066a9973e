//! `mayfly wait`.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::App;
use super::flags::selection::Selection;
use crate::lifecycle::{self, Goal, Manager, Reached};
use crate::model::{Span, VmId};
use crate::output::escape;

const EXAMPLES: &str = "\
Examples:
  mayfly wait ci
  mayfly wait --timeout 10m --all --label job=nightly
  mayfly wait --for started ci && mayfly exec ci -- make test";

/// Wait until VMs have ended
///
/// Returns when none of them runs any more: each has stopped or expired, was deleted, or never ran. A VM
/// that is still there after --timeout is an error, with exit code 4.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    vms: Selection,

    /// Wait for this
    ///
    /// For one that is to be started it is an error if it expires or is deleted: exit code 3.
    #[arg(long = "for", value_name = "STATE", value_enum, default_value_t = Goal::Ended)]
    goal: Goal,

    /// Wait no longer than DURATION, for all of them together
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// What a VM came to.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    vm_id: &'a VmId,
    /// As in `status`, or `expired`, or `removed`.
    state: &'static str,
    last_error: Option<String>,
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout.0));
    let manager = Manager::open(app.settings.clone())?;
    args.vms.each(
        app,
        &manager,
        "wait for",
        |_| true,
        |id, named| {
            let id = id?;
            let reached = lifecycle::wait(&manager, &id, args.goal, deadline)?;
            let (state, last_error) = match &reached {
                Reached::Here(record) => (record.state.name(), record.last_error().map(escape)),
                Reached::Expired(record) => ("expired", record.last_error().map(escape)),
                Reached::Removed => ("removed", None),
            };
            app.printer.done(&Answer { vm_id: &id, state, last_error }, named)
        },
    )
}
