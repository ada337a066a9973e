//! Working on several VMs at the same time.

use std::io::pipe;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};

use crate::host::signals::{PendingSignals, SignalInterrupt, SignalNumber, SignalRelay};
use crate::host::thread;
use crate::model::VmRecord;

/// Calls `work` for every VM, with at most `jobs` threads, and `done` with each result in this thread.
/// Every signal is forwarded to each of the `N` receivers of each `work`. After the first signal, no
/// more work is started.
///
/// # Errors
/// The receivers or the first threads cannot be created. Errors of `work` go to `done`.
pub fn in_parallel<T: Send, const N: usize>(
    vms: &[VmRecord],
    jobs: usize,
    signals: &mut PendingSignals,
    work: impl Fn(&VmRecord, &mut [PendingSignals; N]) -> Result<T> + Sync,
    mut done: impl FnMut(&VmRecord, Result<T>),
) -> Result<()> {
    let mut relays = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..jobs.min(vms.len()) {
        let pairs: Vec<(SignalRelay, PendingSignals)> =
            std::iter::repeat_with(PendingSignals::relayed).take(N).collect::<Result<_>>()?;
        let (senders, receivers): (Vec<SignalRelay>, Vec<PendingSignals>) =
            pairs.into_iter().unzip();
        relays.extend(senders);
        workers.push(<[PendingSignals; N]>::try_from(receivers).expect("there are N"));
    }
    let (stop, stop_writer) = pipe().context("cannot make a pipe")?;
    let next = AtomicUsize::new(0);
    let arrived: Mutex<Option<SignalNumber>> = Mutex::default();
    let (work, next, arrived) = (&work, &next, &arrived);
    std::thread::scope(|scope| {
        // Dropping it ends the listener.
        let _stop_writer = stop_writer;
        thread::start(scope, move || {
            signals.listen(stop.as_fd(), |signal| {
                *arrived.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
                relays.iter().for_each(|relay| relay.pass_on(signal));
            });
        })?;
        let (sender, receiver) = mpsc::channel();
        for (started, mut signals) in workers.into_iter().enumerate() {
            let sender = sender.clone();
            let worker = thread::start(scope, move || {
                while let Some(vm) = vms.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let stopped = *arrived.lock().unwrap_or_else(PoisonError::into_inner);
                    let result = match stopped {
                        Some(signal) => Err(SignalInterrupt(signal).into()),
                        None => work(vm, &mut signals),
                    };
                    if sender.send((vm, result)).is_err() {
                        return;
                    }
                }
            });
            match worker {
                Err(error) if started == 0 => return Err(error.into()),
                // Fewer threads do the same work.
                Err(_) => break,
                Ok(_) => {}
            }
        }
        drop(sender);
        receiver.into_iter().for_each(|(vm, result)| done(vm, result));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::Signal;

    use super::*;
    use crate::model::{BootId, NetworkReport, VmExpiry, VmManifest, VmPhase};

    fn vms(count: usize) -> Vec<VmRecord> {
        let boot_id = BootId("this".into());
        let expiry = VmExpiry { expires_at: 60.0, expires_boottime: 60.0, boot_id };
        let vm = VmRecord {
            manifest: VmManifest::sample(),
            expiry,
            state: VmPhase::Created,
            command: None,
            waits: None,
            network: NetworkReport::default(),
        };
        vec![vm; count]
    }

    #[test]
    fn each_vm_is_worked_on_once_with_at_most_so_many_threads() {
        let (_relay, mut signals) = PendingSignals::relayed().unwrap();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut ended = 0;
        let work = |_: &VmRecord, _: &mut [PendingSignals; 1]| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        in_parallel(&vms(50), 3, &mut signals, work, |_, result| {
            result.unwrap();
            ended += 1;
        })
        .unwrap();
        assert_eq!(ended, 50);
        assert!(most.load(Ordering::SeqCst) <= 3);
        in_parallel(&[], 3, &mut signals, work, |_, _| panic!("there is none")).unwrap();
    }

    #[test]
    fn a_signal_reaches_all_running_work_and_prevents_the_rest() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        let begun = AtomicUsize::new(0);
        let (mut interrupted, mut prevented) = (0, 0);
        let work = |_: &VmRecord, receivers: &mut [PendingSignals; 2]| {
            if begun.fetch_add(1, Ordering::SeqCst) == 1 {
                relay.pass_on(Signal::SIGTERM);
            }
            for receiver in receivers {
                while !receiver.pending() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(receiver.take(), Some(Signal::SIGTERM.into()));
            }
            Ok(())
        };
        in_parallel(&vms(10), 2, &mut signals, work, |_, result| match result {
            Ok(()) => interrupted += 1,
            Err(error) => {
                assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGTERM.into())));
                prevented += 1;
            }
        })
        .unwrap();
        assert_eq!((interrupted, prevented), (2, 8));
    }
}
