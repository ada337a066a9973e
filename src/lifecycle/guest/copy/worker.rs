//! A thread that writes or reads a stream while the command in the VM does the other half.

use std::io::{self, ErrorKind, pipe};
use std::os::fd::AsFd;

use anyhow::{Context, Error, Result};

use super::cancel::{CancelEvent, was_cancelled};
use super::outcome::check_outcome;
use crate::archive::ArchiveError;
use crate::guest::CommandOutcome;
use crate::host::signals::PendingSignals;
use crate::host::thread;

/// Calls `work` in a thread and `exec` in this one. If one fails, the other is ended. If both succeed,
/// calls `finish` with the result of `work`. A signal ends all three: `work` and `finish` must check
/// `cancel` whenever they wait.
///
/// # Errors
/// [`SignalInterrupt`](crate::host::signals::SignalInterrupt) if there was a signal, even after
/// everything was done; the errors of `exec`, `work`, the command and `finish`.
pub fn with_worker<T: Send, U>(
    cancel: &CancelEvent,
    signals: &mut PendingSignals,
    work: impl FnOnce() -> Result<T> + Send,
    exec: impl FnOnce(&mut PendingSignals) -> Result<CommandOutcome>,
    finish: impl FnOnce(T) -> Result<U>,
) -> Result<U> {
    let (relay, mut forwarded) = PendingSignals::relayed()?;
    let (stop, stop_writer) = pipe().context("cannot make a pipe")?;
    let done = std::thread::scope(|scope| {
        // Dropping it ends the listener.
        let _stop_writer = stop_writer;
        thread::start(scope, move || {
            signals.listen(stop.as_fd(), |signal| {
                cancel.set(Some(signal));
                relay.pass_on(signal);
            });
        })?;
        let worker = thread::start(scope, work)?;
        let outcome = exec(&mut forwarded).map(|outcome| check_outcome(&outcome));
        if !matches!(outcome, Ok(Ok(()))) {
            cancel.set(None);
        }
        let worked = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // An error of `exec` is reported first: the agent is gone, or there was a second Ctrl-C.
        match (outcome?, worked) {
            (Ok(()), Ok(made)) => finish(made),
            // The command ended the stream, so its error is the cause.
            (Err(theirs), Err(error)) if is_truncated(&error) => Err(theirs),
            (_, Err(error)) => Err(error),
            (Err(theirs), Ok(_)) => Err(theirs),
        }
    });
    match cancel.interrupted() {
        Some(interrupted) => Err(interrupted.into()),
        None => done,
    }
}

fn is_truncated(error: &Error) -> bool {
    let ended = |error: &io::Error| error.kind() == ErrorKind::UnexpectedEof;
    was_cancelled(error)
        || error.chain().any(|cause| {
            cause.downcast_ref::<ArchiveError>() == Some(&ArchiveError::Truncated)
                || cause.downcast_ref::<io::Error>().is_some_and(ended)
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::Signal;

    use super::*;
    use crate::guest::{CapturedOutput, CommandExit};
    use crate::host::signals::SignalInterrupt;
    use crate::sys::poll::{self, PollFlags};

    fn ended(exit: CommandExit, printed: &str) -> Result<CommandOutcome> {
        let stderr = CapturedOutput { bytes: printed.into(), truncated: false };
        Ok(CommandOutcome {
            exit,
            stdout: CapturedOutput::default(),
            stderr,
            duration: Duration::ZERO,
        })
    }

    /// Works until it is cancelled.
    fn work_until_cancelled(cancel: &CancelEvent) -> Result<()> {
        while !cancel.is_set() {
            std::thread::yield_now();
        }
        Ok(cancel.check()?)
    }

    #[test]
    fn a_signal_ends_a_thread_that_outlives_the_command() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        let cancel = &CancelEvent::new().unwrap();
        let exec = |_: &mut PendingSignals| {
            relay.pass_on(Signal::SIGTERM);
            ended(CommandExit::Exited(0), "")
        };
        let error = with_worker(cancel, &mut signals, || work_until_cancelled(cancel), exec, Ok)
            .unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGTERM.into())));
    }

    #[test]
    fn a_signal_ends_the_thread_the_command_and_the_last_step() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        let cancel = &CancelEvent::new().unwrap();
        let exec = |signals: &mut PendingSignals| {
            relay.pass_on(Signal::SIGINT);
            poll::wait_for(signals.as_fd(), PollFlags::POLLIN, None)?;
            assert_eq!(signals.take(), Some(Signal::SIGINT.into()));
            ended(CommandExit::Signalled(2), "")
        };
        let error = with_worker(cancel, &mut signals, || work_until_cancelled(cancel), exec, Ok)
            .unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGINT.into())));
        let cancel = &CancelEvent::new().unwrap();
        let finish = |()| {
            relay.pass_on(Signal::SIGINT);
            work_until_cancelled(cancel)
        };
        let exec = |_: &mut PendingSignals| ended(CommandExit::Exited(0), "");
        let error = with_worker(cancel, &mut signals, || Ok(()), exec, finish).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGINT.into())));
    }

    #[test]
    fn the_error_that_caused_the_others_is_reported() {
        let (_relay, mut signals) = PendingSignals::relayed().unwrap();
        let mut error_of = |work: fn(&CancelEvent) -> Result<()>, exit, printed| {
            let cancel = &CancelEvent::new().unwrap();
            let exec = |_: &mut PendingSignals| ended(exit, printed);
            with_worker(cancel, &mut signals, || work(cancel), exec, Ok)
                .map_err(|error| error.to_string())
        };
        assert_eq!(error_of(|_| Ok(()), CommandExit::Exited(0), ""), Ok(()));
        let theirs = Err("in the VM: it is full".to_owned());
        assert_eq!(error_of(work_until_cancelled, CommandExit::Exited(1), "it is full"), theirs);
        assert_eq!(error_of(|_| Ok(()), CommandExit::Exited(1), "it is full"), theirs);
        assert_eq!(
            error_of(|_| Err(ArchiveError::Truncated.into()), CommandExit::Exited(1), "it is full"),
            theirs
        );
        let ours = Err("ours".to_owned());
        assert_eq!(
            error_of(|_| Err(Error::msg("ours")), CommandExit::Exited(1), "it is full"),
            ours
        );
        assert_eq!(error_of(|_| Err(Error::msg("ours")), CommandExit::OutputClosed, ""), ours);
    }
}
