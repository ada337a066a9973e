//! Whether the processes on record still run.

use std::thread;

use anyhow::Result;

use crate::host::process;
use crate::host::thread::start;
use crate::model::{ClockReading, ProcessLiveness, VmRecord};

/// How long after its end a VM that is elsewhere counts as gone: its agent powers it off at its end, by a
/// clock that may be slow, and then a command there may delete it.
const GONE_AFTER: f64 = 60.0;

/// From how many VMs on another thread saves more time than it takes to start.
const PER_THREAD: usize = 200;

/// The state of the process on record; `None` if no process is recorded.
///
/// # Errors
/// /proc cannot be read.
pub fn liveness_of(record: &VmRecord, now: &ClockReading) -> Result<Option<ProcessLiveness>> {
    if is_recorded_elsewhere(record, now)? {
        let is_gone = is_long_over(record, now);
        return Ok(Some(if is_gone { ProcessLiveness::Dead } else { ProcessLiveness::Elsewhere }));
    }
    let instance = record.state.instance();
    instance.map(|instance| process::liveness(&instance.process, &now.boot_id)).transpose()
}

/// Whether a VM belongs to another host or pid namespace, so that only a command there may touch it. Unlike
/// [`liveness_of`], this does not look at the process.
pub fn is_elsewhere(record: &VmRecord, now: &ClockReading) -> Result<bool> {
    Ok(is_recorded_elsewhere(record, now)? && !is_long_over(record, now))
}

/// Without a process, a VM is elsewhere if a command on another host is changing it, because hosts may not see each
/// other's locks.
fn is_recorded_elsewhere(record: &VmRecord, now: &ClockReading) -> Result<bool> {
    let (here, boot) = (process::here()?, &now.boot_id);
    Ok(match (record.state.instance(), &record.command) {
        (Some(instance), _) => instance.process.is_elsewhere(here, boot),
        (None, Some(command)) => command.is_on_another_host(here, boot),
        (None, None) => false,
    })
}

fn is_long_over(record: &VmRecord, now: &ClockReading) -> bool {
    record.expiry.remaining(now) <= -GONE_AFTER
}

/// [`liveness_of`] of each record. Of many VMs, several threads read /proc, which takes most of the time.
///
/// # Errors
/// As for [`liveness_of`].
pub fn liveness_of_all(
    records: &[VmRecord],
    now: &ClockReading,
) -> Result<Vec<Option<ProcessLiveness>>> {
    let look = |part: &[VmRecord]| -> Result<Vec<_>> {
        part.iter().map(|record| liveness_of(record, now)).collect()
    };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let threads = (records.len() / PER_THREAD).clamp(1, cpus);
    let mut parts = records.chunks(records.len().div_ceil(threads).max(1));
    let mine = parts.next().unwrap_or_default();
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, start(scope, move || look(part)))).collect();
        let mut all = look(mine)?;
        for (part, other) in others {
            all.extend(match other {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
                }
                // The kernel allows no more threads.
                Err(_) => look(part)?,
            });
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock;
    use crate::model::{
        NetworkReport, ProcessId, ProcessPlace, VmExpiry, VmInstance, VmManifest, VmPhase,
    };

    #[test]
    fn several_threads_see_what_one_sees() {
        let (now, me) = (clock::now().unwrap(), process::identify_self().unwrap());
        let other = ProcessPlace { pid_namespace: 1, ..process::here().unwrap().clone() };
        let started = |number: usize, process: ProcessId| VmRecord {
            // Some ended long ago.
            expiry: VmExpiry {
                expires_at: now.unix - 600.0 * (number % 2) as f64,
                ..VmExpiry::after(&now, 60)
            },
            manifest: VmManifest::sample(),
            state: VmPhase::Started { instance: VmInstance::new(process) },
            command: None,
            waits: None,
            network: NetworkReport::default(),
        };
        let records: Vec<VmRecord> = (0..3 * PER_THREAD + 1)
            .map(|number| match number % 5 {
                0 => VmRecord { state: VmPhase::Created, ..started(number, me.clone()) },
                1 => started(number, ProcessId { start_ticks: number as u64, ..me.clone() }),
                2 => started(number, ProcessId { place: Some(other.clone()), ..me.clone() }),
                _ => started(number, me.clone()),
            })
            .collect();
        let each: Vec<_> =
            records.iter().map(|record| liveness_of(record, &now).unwrap()).collect();
        assert_eq!(liveness_of_all(&records, &now).unwrap(), each);
        let elsewhere: Vec<_> =
            each.iter().map(|seen| *seen == Some(ProcessLiveness::Elsewhere)).collect();
        let alone: Vec<_> =
            records.iter().map(|record| is_elsewhere(record, &now).unwrap()).collect();
        assert_eq!(alone, elsewhere);
        for expected in [
            None,
            Some(ProcessLiveness::Alive),
            Some(ProcessLiveness::Dead),
            Some(ProcessLiveness::Elsewhere),
        ] {
            assert!(each.contains(&expected), "{expected:?}");
        }
        assert!(liveness_of_all(&[], &now).unwrap().is_empty());
    }
}
