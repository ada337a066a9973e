//! The end of the VM: past its TTL, on SIGTERM, or when the host asks for it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::context::{AgentContext, AgentMode};
use crate::agent::console;
use crate::agent::processes::{ChildReaper, family};
use crate::sys::poll::{self, PollFlags};
use crate::sys::{removal, signals};

/// How long processes may take to end before they are killed, unless the host sets a grace period.
const GRACE: Duration = Duration::from_millis(500);

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Leaves SIGTERM to [`wait_for_sigterm`] and ignores the signals of a terminal. Call it before any
/// thread starts: threads inherit both.
///
/// # Errors
/// The kernel's.
pub fn block_signals() -> nix::Result<()> {
    SigSet::from(Signal::SIGTERM).thread_block()?;
    let ignored = [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE];
    ignored.into_iter().try_for_each(signals::ignore)
}

/// Ends the VM when SIGTERM arrives.
pub fn wait_for_sigterm(context: &AgentContext) -> ! {
    let term = SigSet::from(Signal::SIGTERM);
    loop {
        if term.wait().is_ok() {
            end(context, GRACE);
        }
    }
}

/// Starts the thread that ends the VM past its TTL.
///
/// # Errors
/// The kernel allows no more threads.
pub fn end_past_ttl(context: &Arc<AgentContext>) -> Result<()> {
    let context = Arc::clone(context);
    let wait = move || {
        loop {
            if poll::wait_for(context.ttl.as_fd(), PollFlags::POLLIN, None).is_ok() {
                console::print("the VM's TTL is over");
                end(&context, GRACE);
            }
        }
    };
    std::thread::Builder::new().spawn(wait).map(drop).context("start the timer's thread")
}

/// Ends the VM: asks processes to end, kills those that have not after `grace`, then powers off or
/// exits. Only the first caller does; others wait for the end.
pub fn end(context: &AgentContext, grace: Duration) -> ! {
    if context.ending.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    match &context.mode {
        AgentMode::Process { secrets, .. } => {
            end_descendants(&context.reaper, grace);
            if let Some(secrets) = secrets {
                let _ = removal::remove(secrets);
            }
            std::process::exit(0);
        }
        AgentMode::Guest { cgroups, mounts, power } => {
            signal_all(Signal::SIGTERM);
            family::hang_up_descendants();
            // Stopped processes receive SIGTERM only when they continue.
            signal_all(Signal::SIGCONT);
            if !context.reaper.wait_for_none(grace) {
                if let Some(cgroups) = cgroups {
                    cgroups.kill_all();
                }
                signal_all(Signal::SIGKILL);
                context.reaper.wait_for_none(KILL_LIMIT);
            }
            mounts.flush();
            let error = nix::sys::reboot::reboot(*power);
            console::print(&format!("cannot power off: {error:?}"));
            // The kernel panics when its first process ends, and `panic=-1` ends the VM.
            std::process::exit(1);
        }
    }
}

fn end_descendants(reaper: &ChildReaper, grace: Duration) {
    family::signal_descendants(Signal::SIGTERM);
    family::hang_up_descendants();
    family::signal_descendants(Signal::SIGCONT);
    if reaper.wait_for_none(grace) {
        return;
    }
    let deadline = Instant::now() + KILL_LIMIT;
    // Each round also finds what was forked during the one before.
    while Instant::now() < deadline {
        family::signal_descendants(Signal::SIGSTOP);
        family::signal_descendants(Signal::SIGKILL);
        if reaper.wait_for_none(Duration::from_millis(20)) {
            return;
        }
    }
}

/// Signals every process but the first, which this is.
fn signal_all(signal: Signal) {
    let _ = kill(Pid::from_raw(-1), signal);
}
