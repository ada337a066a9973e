//! Guests that stop while they boot.
//!
//! An emulated guest whose processor the host does not run in time may give up its timer while it boots, and then sleeps for
//! ever. No log shows that, but nothing else in a boot leaves a processor without work for seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::{process, thread};
use crate::lifecycle::recover::processes;
use crate::model::{ProcessId, Refusal, RefusalKind};
use crate::sys::process::ThreadActivity;

/// A guest that does nothing for this long before its agent answers has stopped.
const LIMIT: Duration = Duration::from_secs(5);

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Clock ticks in which a VMM may serve its own timers meanwhile.
const ITS_OWN: u64 = 2;

/// Watches a VMM until its guest's agent has answered, and kills it if the guest has stopped.
#[derive(Debug)]
pub struct StallWatch {
    has_ended_it: Arc<AtomicBool>,
    _stop: Sender<()>,
}

impl StallWatch {
    /// Watches until it is dropped; nothing for `None`. Without a thread for it, the VMM is not watched. `waits` tells that
    /// the guest waits for something on the host.
    ///
    /// # Errors
    /// Those of [`process::open`].
    pub fn begin(vmm: Option<&ProcessId>, waits: Arc<AtomicBool>) -> Result<StallWatch> {
        let (stop, stopped) = channel();
        let has_ended_it = Arc::new(AtomicBool::new(false));
        let watch = StallWatch { has_ended_it: has_ended_it.clone(), _stop: stop };
        let Some(identity) = vmm else { return Ok(watch) };
        let pid = identity.pid;
        if let Some(vmm) = process::open(identity)? {
            let _ = thread::start_detached(move || {
                let mut stall = Stall::default();
                while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    let activity =
                        ThreadActivity::read(pid).filter(|_| !waits.load(Ordering::Relaxed));
                    if stall.is_over(LIMIT, activity, Instant::now()) {
                        has_ended_it.store(true, Ordering::Relaxed);
                        let _ = processes::kill(&vmm);
                        return;
                    }
                }
            });
        }
        Ok(watch)
    }

    /// Why it has killed the VMM, if it has.
    pub fn why_ended(&self) -> Option<Refusal> {
        let message = format!(
            "the guest did nothing for {} s, and its agent did not answer",
            LIMIT.as_secs()
        );
        let has_ended_it = self.has_ended_it.load(Ordering::Relaxed);
        has_ended_it.then(|| Refusal::new(RefusalKind::Agent, message))
    }
}

/// Since when a guest has done nothing.
#[derive(Debug, Default)]
struct Stall {
    begin: Option<(Instant, u64)>,
}

impl Stall {
    /// Whether the guest has done nothing for `limit`. `activity` is `None` while that cannot be known.
    fn is_over(&mut self, limit: Duration, activity: Option<ThreadActivity>, now: Instant) -> bool {
        let Some(activity) = activity.filter(|activity| activity.all_sleep) else {
            self.begin = None;
            return false;
        };
        let (since, ticks) = *self.begin.get_or_insert((now, activity.cpu_ticks));
        if activity.cpu_ticks > ticks + ITS_OWN {
            self.begin = None;
            return false;
        }
        now.duration_since(since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_does_nothing_all_the_time_has_stopped() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let idle = |cpu_ticks| Some(ThreadActivity { cpu_ticks, all_sleep: true });
        let ready = Some(ThreadActivity { cpu_ticks: 7, all_sleep: false });
        let is_over = |looks: [Option<ThreadActivity>; 6]| {
            let mut stall = Stall::default();
            let looks = looks.into_iter().zip(0..);
            looks.map(|(look, at)| stall.is_over(LIMIT, look, start + second * at)).last().unwrap()
        };
        assert!(is_over([idle(7); 6]));
        assert!(is_over([7, 7, 8, 8, 9, 9].map(idle)), "its own timers");
        assert!(!is_over([7, 7, 30, 30, 30, 30].map(idle)), "it computed");
        assert!(
            !is_over([idle(7), idle(7), ready, idle(7), idle(7), idle(7)]),
            "it waited for a processor"
        );
        assert!(
            !is_over([idle(7), idle(7), None, idle(7), idle(7), idle(7)]),
            "it could not be seen"
        );
    }
}
