//! Doing something to several VMs at once.

use std::io::pipe;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::host::signals::{PendingSignals, SignalInterrupt, SignalRelay};
use crate::model::VmRecord;

/// Calls `work` for every VM, `jobs` at a time, each in a thread of its own, and `done` with what came of
/// it in this one. `work` hears of every signal that arrives, on each of its `N` pairs of ears; after the
/// first one nothing more is begun.
///
/// Errors: there are no descriptors for the ears. Those of `work` go to `done`.
pub fn at_once<T: Send, const N: usize>(
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
        let (mouths, ears): (Vec<SignalRelay>, Vec<PendingSignals>) = pairs.into_iter().unzip();
        relays.extend(mouths);
        workers.push(<[PendingSignals; N]>::try_from(ears).expect("as many as were made"));
    }
    let (over, running) = pipe().context("make a pipe")?;
    let next = AtomicUsize::new(0);
    let arrived: Mutex<Option<Signal>> = Mutex::default();
    let (work, next, arrived) = (&work, &next, &arrived);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for mut ears in workers {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(vm) = vms.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let stopped = *arrived.lock().unwrap_or_else(PoisonError::into_inner);
                    let result = match stopped {
                        Some(signal) => Err(SignalInterrupt(signal).into()),
                        None => work(vm, &mut ears),
                    };
                    if sender.send((vm, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        scope.spawn(move || {
            signals.listen(over.as_fd(), |signal| {
                *arrived.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
                relays.iter().for_each(|relay| relay.pass_on(signal));
            });
        });
        receiver.into_iter().for_each(|(vm, result)| done(vm, result));
        drop(running);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{BootId, VmExpiry, VmManifest, VmPhase};

    fn vms(count: usize) -> Vec<VmRecord> {
        let boot_id = BootId("this".into());
        let expiry = VmExpiry { expires_at: 60.0, expires_boottime: 60.0, boot_id };
        let vm = VmRecord { manifest: VmManifest::sample(), expiry, state: VmPhase::Created };
        vec![vm; count]
    }

    #[test]
    fn each_is_worked_on_once_and_no_more_than_so_many_at_a_time() {
        let (_relay, mut signals) = PendingSignals::relayed().unwrap();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut ended = 0;
        let work = |_: &VmRecord, _: &mut [PendingSignals; 1]| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        at_once(&vms(50), 3, &mut signals, work, |_, result| {
            result.unwrap();
            ended += 1;
        })
        .unwrap();
        assert_eq!(ended, 50);
        assert!(most.load(Ordering::SeqCst) <= 3);
        at_once(&[], 3, &mut signals, work, |_, _| panic!("there is none")).unwrap();
    }

    #[test]
    fn a_signal_reaches_all_who_work_and_keeps_the_others_from_it() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        let begun = AtomicUsize::new(0);
        let (mut heard, mut spared) = (0, 0);
        let work = |_: &VmRecord, ears: &mut [PendingSignals; 2]| {
            if begun.fetch_add(1, Ordering::SeqCst) == 1 {
                relay.pass_on(Signal::SIGTERM);
            }
            for ear in ears {
                while !ear.pending() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(ear.take(), Some(Signal::SIGTERM));
            }
            Ok(())
        };
        at_once(&vms(10), 2, &mut signals, work, |_, result| match result {
            Ok(()) => heard += 1,
            Err(error) => {
                assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGTERM)));
                spared += 1;
            }
        })
        .unwrap();
        assert_eq!((heard, spared), (2, 8));
    }
}
