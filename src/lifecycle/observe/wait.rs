//! Waiting for what becomes of a VM.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use super::activity::{VmActivity, watch_registry};
use crate::host::clock;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::recover::settle::settle;
use crate::model::{ClockReading, Refusal, RefusalKind, VmId, VmPhase, VmRecord};
use crate::registry::gone;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitGoal {
    /// The VM runs, and its agent answers
    Started,
    /// The VM does not run: it has stopped or expired, was deleted, or never ran
    Ended,
    /// There is no such VM any more
    #[value(alias = "deleted")]
    Removed,
}

/// How a waiting ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum WaitOutcome {
    /// The VM is there, as it should be.
    Here(Box<VmRecord>),
    /// Its time is up. It may still run for a moment.
    Expired(Box<VmRecord>),
    Removed,
}

/// Waits until a VM has come to `goal`, at most until `deadline`.
///
/// Errors: `WrongState` at the deadline; `NotFound` or `Expired` when a VM that is to be started never will
/// be.
pub fn wait(
    manager: &VmManager,
    id: &VmId,
    goal: WaitGoal,
    deadline: Option<Instant>,
) -> Result<WaitOutcome> {
    let watch = watch_registry(manager)?;
    loop {
        let course = VmActivity::of(manager, id)?;
        let now = clock::now()?;
        if let Some(reached) = reached(&course, goal, id, &now)? {
            return Ok(reached);
        }
        if let VmActivity::Rests(record) = &course
            && !record.is_at_rest()
        {
            // Nobody else would ever finish it.
            if let Some(lock) = manager.registry.try_lock_vm(id)? {
                settle(manager, id, lock)?;
            }
            continue;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(late(&course, id).into());
        }
        let until = [deadline, expiry(&course, &now)].into_iter().flatten().min();
        course.wait(&watch, None, until)?;
    }
}

/// Whether a course is the goal, or can never be.
fn reached(
    course: &VmActivity,
    goal: WaitGoal,
    id: &VmId,
    now: &ClockReading,
) -> Result<Option<WaitOutcome>, Refusal> {
    let Some(record) = course.record() else {
        return match goal {
            WaitGoal::Started => Err(gone(id)),
            WaitGoal::Ended | WaitGoal::Removed => Ok(Some(WaitOutcome::Removed)),
        };
    };
    let is_expired = record.has_expired(now);
    let is_there = match (goal, &record.state) {
        (WaitGoal::Started, _) if is_expired => {
            return Err(Refusal::new(RefusalKind::Expired, format!("VM {id} has expired")));
        }
        (WaitGoal::Started, VmPhase::Started { .. }) => true,
        (WaitGoal::Ended, VmPhase::Created | VmPhase::Stopped { .. }) => true,
        (WaitGoal::Ended, _) => is_expired,
        (WaitGoal::Started | WaitGoal::Removed, _) => false,
    };
    let reached = |record: &VmRecord| match is_expired {
        true => WaitOutcome::Expired(Box::new(record.clone())),
        false => WaitOutcome::Here(Box::new(record.clone())),
    };
    Ok(is_there.then(|| reached(record)))
}

/// When a VM's time is up, if it is not yet.
fn expiry(course: &VmActivity, now: &ClockReading) -> Option<Instant> {
    let left = course.record()?.expiry.remaining(now);
    let left = Duration::try_from_secs_f64(left).ok().filter(|left| !left.is_zero())?;
    Instant::now().checked_add(left)
}

fn late(course: &VmActivity, id: &VmId) -> Refusal {
    let state = course.record().map_or("gone", |record| record.state.name());
    Refusal::new(RefusalKind::WrongState, format!("VM {id} is still {state}"))
        .hint("give it more time with '--timeout'")
}
