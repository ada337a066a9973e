//! What a record means once it is compared with the process it names.
//!
//! Two pure functions over one table: [`observe`] is what a reader is shown, and [`repair`] is what
//! somebody who holds the VM's lock must do about an operation that nobody finished.

use super::process::Liveness;
use super::record::{Phase, VmRecord};

/// What a holder of the VM's lock must do to bring record and world together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// They agree.
    Keep,
    /// The VM was never acknowledged: delete what there is of it.
    RollBack,
    /// End the process if it lives, then record the VM as stopped with this error.
    Stop(Option<&'static str>),
    /// A removal was begun: finish it.
    Remove,
}

pub const DIED: &str = "the VM ended by itself";
pub const INTERRUPTED: &str = "its start was interrupted";
pub const REBOOTED: &str = "host rebooted";

/// The table. `process` is what became of the process on record; `None` where none is recorded.
pub fn repair(state: &Phase, process: Option<Liveness>) -> Repair {
    use Liveness::{Alive, Dead, OtherBoot};
    match (state, process) {
        (Phase::Removing { .. }, _) => Repair::Remove,
        (_, Some(OtherBoot)) => Repair::Stop(Some(REBOOTED)),
        (Phase::Creating, _) => Repair::RollBack,
        (Phase::Created | Phase::Stopped { .. }, _) => Repair::Keep,
        (Phase::Starting { .. }, _) => Repair::Stop(Some(INTERRUPTED)),
        (Phase::Started { .. }, Some(Alive)) => Repair::Keep,
        (Phase::Started { .. }, Some(Dead) | None) => Repair::Stop(Some(DIED)),
        (Phase::Stopping { .. }, _) => Repair::Stop(None),
    }
}

/// The record as a reader must see it: a `started` VM whose VMM is gone is a stopped one. Operations
/// in flight are shown as recorded, because only the VM's lock tells them from abandoned ones.
pub fn observe(mut record: VmRecord, process: Option<Liveness>) -> VmRecord {
    if let Phase::Started { .. } = record.state
        && let Repair::Stop(error) = repair(&record.state, process)
    {
        record.state = Phase::Stopped { last_error: error.map(str::to_owned) };
    }
    record
}
