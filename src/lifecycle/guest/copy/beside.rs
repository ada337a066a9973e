//! A thread that makes or takes a stream, beside the command in the VM that does the other half.

use std::io::{self, ErrorKind, pipe};
use std::os::fd::AsFd;

use anyhow::{Context, Error, Result};

use super::alarm::{CancelEvent, was_stopped};
use super::ended::ended_well;
use crate::archive::ArchiveError;
use crate::guest::CommandOutcome;
use crate::host::signals::PendingSignals;

/// Calls `work` in a thread and `exec` in this one, each of which ends when the other fails; and, when
/// both have ended well, `finish` with what the thread made. A signal reaches all of them, whatever they
/// wait for: those that wait for anything heed the `alarm`.
///
/// # Errors
/// [`SignalInterrupt`](crate::host::signals::SignalInterrupt) if there was a signal, also one that came when all
/// was done; what `exec`, `work`, the command or `finish` says is wrong.
pub fn beside<T: Send, U>(
    alarm: &CancelEvent,
    signals: &mut PendingSignals,
    work: impl FnOnce() -> Result<T> + Send,
    exec: impl FnOnce(&mut PendingSignals) -> Result<CommandOutcome>,
    finish: impl FnOnce(T) -> Result<U>,
) -> Result<U> {
    let (relay, mut ears) = PendingSignals::relayed()?;
    let (over, running) = pipe().context("cannot make a pipe")?;
    let done = std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        scope.spawn(move || {
            signals.listen(over.as_fd(), |signal| {
                alarm.ring(Some(signal));
                relay.pass_on(signal);
            });
        });
        // The listener ends with this.
        let _running = running;
        let outcome = exec(&mut ears).map(|outcome| ended_well(&outcome));
        if !matches!(outcome, Ok(Ok(()))) {
            alarm.ring(None);
        }
        let worked = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What is lost says it best: an agent that went away, a second Ctrl-C.
        match (outcome?, worked) {
            (Ok(()), Ok(made)) => finish(made),
            // The stream broke off because of the command, and that says why.
            (Err(theirs), Err(error)) if broke_off(&error) => Err(theirs),
            (_, Err(error)) => Err(error),
            (Err(theirs), Ok(_)) => Err(theirs),
        }
    });
    match alarm.interrupted() {
        Some(interrupted) => Err(interrupted.into()),
        None => done,
    }
}

fn broke_off(error: &Error) -> bool {
    let ended = |error: &io::Error| error.kind() == ErrorKind::UnexpectedEof;
    was_stopped(error)
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

    fn ended(exit: CommandExit, says: &str) -> Result<CommandOutcome> {
        let stderr = CapturedOutput { bytes: says.into(), truncated: false };
        Ok(CommandOutcome {
            exit,
            stdout: CapturedOutput::default(),
            stderr,
            duration: Duration::ZERO,
        })
    }

    /// Works without end.
    fn toil(alarm: &CancelEvent) -> Result<()> {
        while !alarm.rang() {
            std::thread::yield_now();
        }
        Ok(alarm.check()?)
    }

    #[test]
    fn a_signal_ends_a_thread_that_works_on_after_the_command_has_ended() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        let alarm = &CancelEvent::new().unwrap();
        let exec = |_: &mut PendingSignals| {
            relay.pass_on(Signal::SIGTERM);
            ended(CommandExit::Exited(0), "")
        };
        let error = beside(alarm, &mut signals, || toil(alarm), exec, Ok).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGTERM)));
    }

    #[test]
    fn a_signal_ends_both_and_what_is_left_to_do() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        let alarm = &CancelEvent::new().unwrap();
        let exec = |ears: &mut PendingSignals| {
            relay.pass_on(Signal::SIGINT);
            poll::wait_for(ears.as_fd(), PollFlags::POLLIN, None)?;
            assert_eq!(ears.take(), Some(Signal::SIGINT));
            ended(CommandExit::Signalled(2), "")
        };
        let error = beside(alarm, &mut signals, || toil(alarm), exec, Ok).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGINT)));
        let alarm = &CancelEvent::new().unwrap();
        let finish = |()| {
            relay.pass_on(Signal::SIGINT);
            toil(alarm)
        };
        let exec = |_: &mut PendingSignals| ended(CommandExit::Exited(0), "");
        let error = beside(alarm, &mut signals, || Ok(()), exec, finish).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGINT)));
    }

    #[test]
    fn the_error_that_is_the_cause_is_told() {
        let (_relay, mut signals) = PendingSignals::relayed().unwrap();
        let mut told = |work: fn(&CancelEvent) -> Result<()>, exit, says| {
            let alarm = &CancelEvent::new().unwrap();
            let exec = |_: &mut PendingSignals| ended(exit, says);
            beside(alarm, &mut signals, || work(alarm), exec, Ok).map_err(|error| error.to_string())
        };
        assert_eq!(told(|_| Ok(()), CommandExit::Exited(0), ""), Ok(()));
        let theirs = Err("in the VM: it is full".to_owned());
        assert_eq!(told(toil, CommandExit::Exited(1), "it is full"), theirs);
        assert_eq!(told(|_| Ok(()), CommandExit::Exited(1), "it is full"), theirs);
        assert_eq!(
            told(|_| Err(ArchiveError::Truncated.into()), CommandExit::Exited(1), "it is full"),
            theirs
        );
        let ours = Err("ours".to_owned());
        assert_eq!(told(|_| Err(Error::msg("ours")), CommandExit::Exited(1), "it is full"), ours);
        assert_eq!(told(|_| Err(Error::msg("ours")), CommandExit::OutputClosed, ""), ours);
    }
}
