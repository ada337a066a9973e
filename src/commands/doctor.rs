//! `mayfly doctor`.

use anyhow::Result;

use super::AppContext;
use crate::lifecycle::{self, VmManager};
use crate::model::RefusalKind;
use crate::output::checks_table;

/// Check whether VMs can run on this host, and say what to do
///
/// Exits with 0 if VMs can run here, and with 6 if no real backend works.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly doctor
  mayfly doctor --json | jq -r '.checks[] | select(.verdict != \"ok\").remedy'")]
pub struct Args {}

pub fn serve(app: &AppContext, _: Args) -> Result<u8> {
    let manager = VmManager::open_unchecked(app.settings.clone());
    let diagnosis = lifecycle::diagnose(&manager);
    let conclusion = match (diagnosis.backend, diagnosis.isolation) {
        (Some(backend), Some(isolation)) => {
            format!("VMs run here with {backend}; isolation is {isolation}")
        }
        _ => "VMs cannot run here yet: see the failed checks above".into(),
    };
    let table = checks_table(app.printer.layout(), &diagnosis.checks, &conclusion);
    app.printer.answer(&diagnosis, &table)?;
    Ok(if diagnosis.usable { 0 } else { RefusalKind::Host.exit_code() })
}
