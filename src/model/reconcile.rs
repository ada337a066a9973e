//! Compares a record with the process that it names.
//!
//! Two pure functions over one table: [`observe`] is what a reader is shown, and [`repair`] is what the
//! holder of the VM's lock must do about an operation that was not finished.

use super::phase::VmPhase;
use super::process::ProcessLiveness;
use super::record::VmRecord;

/// What the holder of the VM's lock must do so that the record is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordRepair {
    /// Nothing: the record is true.
    Keep,
    /// No user has seen the VM yet: delete what there is of it.
    RollBack,
    /// End the process if it lives, then record the VM as stopped with this error.
    Stop(Option<&'static str>),
    /// Finish a removal that was begun.
    Remove,
}

pub const DIED: &str = "the VM ended by itself";
pub const INTERRUPTED: &str = "its start was interrupted";
pub const REBOOTED: &str = "host rebooted";

/// The table. `process` is what became of the recorded process; `None` if none is recorded.
pub fn repair(state: &VmPhase, process: Option<ProcessLiveness>) -> RecordRepair {
    use ProcessLiveness::{Alive, Dead, Elsewhere, OtherBoot};
    match (state, process) {
        // Only a command there can tell.
        (_, Some(Elsewhere)) | (VmPhase::Elsewhere { .. }, _) => RecordRepair::Keep,
        (VmPhase::Removing { .. }, _) => RecordRepair::Remove,
        (VmPhase::Pooled { .. }, Some(Alive)) => RecordRepair::Keep,
        (VmPhase::Pooled { .. }, _) => RecordRepair::RollBack,
        (_, Some(OtherBoot)) => RecordRepair::Stop(Some(REBOOTED)),
        (VmPhase::Creating, _) => RecordRepair::RollBack,
        (VmPhase::Created | VmPhase::Stopped { .. }, _) => RecordRepair::Keep,
        (VmPhase::Starting { .. }, _) => RecordRepair::Stop(Some(INTERRUPTED)),
        (VmPhase::Started { .. }, Some(Alive)) => RecordRepair::Keep,
        (VmPhase::Started { .. }, Some(Dead) | None) => RecordRepair::Stop(Some(DIED)),
        (VmPhase::Stopping { .. }, _) => RecordRepair::Stop(None),
    }
}

/// The record as a reader must see it: a `started` or `pooled` VM whose VMM is gone is stopped, and what cannot be seen
/// from here is elsewhere. Operations under way are shown as recorded, because only the VM's lock
/// distinguishes them from abandoned ones.
pub fn observe(mut record: VmRecord, process: Option<ProcessLiveness>) -> VmRecord {
    if process == Some(ProcessLiveness::Elsewhere)
        && let Some(place) = record.process().and_then(|process| process.place.clone())
    {
        record.state = VmPhase::Elsewhere { place };
    } else if let VmPhase::Started { .. } = record.state
        && let RecordRepair::Stop(error) = repair(&record.state, process)
    {
        record.state = VmPhase::Stopped { last_error: error.map(str::to_owned) };
    } else if let VmPhase::Pooled { .. } = record.state
        && repair(&record.state, process) != RecordRepair::Keep
    {
        record.state = VmPhase::Stopped { last_error: Some(DIED.into()) };
    }
    record
}
