//! `wait`: waiting until a VM has started, ended or been removed.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use super::activity::{VmActivity, watch_registry};
use crate::host::clock;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::recover::settle::settle;
use crate::model::{ClockReading, Refusal, RefusalKind, VmId, VmPhase, VmRecord};
use crate::registry::gone;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitGoal {
    /// The VM runs, and its agent answers
    Started,
    /// The VM is not running: it has stopped or expired, was deleted, or never ran
    Ended,
    /// The VM no longer exists
    #[value(alias = "deleted")]
    Removed,
}

/// The result of a successful wait.
#[derive(Debug, Clone, PartialEq)]
pub enum WaitOutcome {
    /// The VM has reached the goal.
    Reached(Box<VmRecord>),
    /// The VM has expired. It may still run for a moment.
    Expired(Box<VmRecord>),
    Removed,
}

/// Waits until a VM has reached `goal`, at most until `deadline`.
///
/// # Errors
/// `WrongState` at the deadline; `NotFound` or `Expired` if a VM that should start never will.
pub fn wait(
    manager: &VmManager,
    id: &VmId,
    goal: WaitGoal,
    deadline: Option<Instant>,
) -> Result<WaitOutcome> {
    let watch = watch_registry(manager)?;
    loop {
        let activity = VmActivity::of(manager, id)?;
        let now = clock::now()?;
        activity
            .record()
            .map_or(Ok(()), |record| record.check_not_pooled("cannot be waited for"))?;
        if let Some(reached) = reached(&activity, goal, id, &now)? {
            return Ok(reached);
        }
        if let VmActivity::Idle(record) = &activity
            && !record.is_at_rest()
        {
            // The operation was abandoned, so it is finished here.
            if let Some(lock) = manager.registry.try_lock_vm(id)? {
                settle(manager, id, lock)?;
            }
            continue;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(timed_out(&activity, id).into());
        }
        let until = [deadline, expiry(&activity, &now)].into_iter().flatten().min();
        activity.wait(&watch, None, until)?;
    }
}

/// The result, if the goal is reached; an error if it can never be.
fn reached(
    activity: &VmActivity,
    goal: WaitGoal,
    id: &VmId,
    now: &ClockReading,
) -> Result<Option<WaitOutcome>, Refusal> {
    let Some(record) = activity.record() else {
        return match goal {
            WaitGoal::Started => Err(gone(id)),
            WaitGoal::Ended | WaitGoal::Removed => Ok(Some(WaitOutcome::Removed)),
        };
    };
    let is_expired = record.has_expired(now);
    let is_reached = match (goal, &record.state) {
        (WaitGoal::Started, _) if is_expired => {
            let message = format!("VM {} has expired", record.manifest.display_name());
            return Err(Refusal::new(RefusalKind::Expired, message));
        }
        (WaitGoal::Started, VmPhase::Started { .. }) => true,
        (WaitGoal::Ended, VmPhase::Created | VmPhase::Stopped { .. }) => true,
        (WaitGoal::Ended, _) => is_expired,
        (WaitGoal::Started | WaitGoal::Removed, _) => false,
    };
    let outcome = if is_expired { WaitOutcome::Expired } else { WaitOutcome::Reached };
    Ok(is_reached.then(|| outcome(Box::new(record.clone()))))
}

/// When a VM expires, if it has not yet.
fn expiry(activity: &VmActivity, now: &ClockReading) -> Option<Instant> {
    let left = activity.record()?.expiry.remaining(now);
    let left = Duration::try_from_secs_f64(left).ok().filter(|left| !left.is_zero())?;
    Instant::now().checked_add(left)
}

fn timed_out(activity: &VmActivity, id: &VmId) -> Refusal {
    let record = activity.record();
    let state = record.map_or("gone", |record| record.state.name());
    let name = record.map_or(id.as_str(), |record| record.manifest.display_name());
    Refusal::new(RefusalKind::WrongState, format!("VM {name} is still {state}"))
        .hint("give it more time with '--timeout'")
}
