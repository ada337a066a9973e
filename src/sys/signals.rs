//! Signals that every part of mayfly treats alike.

use std::fmt;
use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals by which a user or a service manager asks a program to stop.
pub const STOPPING: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The number of the first real-time signal that programs may use, as of the GNU C library, which keeps two.
const FIRST_REAL_TIME: u8 = 34;

/// The number of the last signal on Linux.
const LAST: u8 = 64;

/// A signal's number. nix's type lacks the real-time signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalNumber(u8);

impl SignalNumber {
    /// The signals that end a program unless it handles them, but for SIGKILL, which no program can handle, SIGPIPE,
    /// and those that report an error of the program itself, such as SIGSEGV. SIGABRT is also a watchdog's.
    pub fn ending() -> impl Iterator<Item = SignalNumber> {
        use Signal::*;
        let spared = [
            SIGKILL, SIGSTOP, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, SIGPIPE, SIGCHLD,
            SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH,
        ];
        let usual = Signal::iterator().filter(move |signal| !spared.contains(signal));
        usual.map(SignalNumber::from).chain((FIRST_REAL_TIME..=LAST).map(SignalNumber))
    }

    /// `None` for a number that no signal has.
    pub fn of(number: u32) -> Option<SignalNumber> {
        u8::try_from(number).ok().filter(|number| (1..=LAST).contains(number)).map(SignalNumber)
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether it is about this process and not about the command that it runs: a limit was reached.
    pub fn is_own_limit(self) -> bool {
        self == Signal::SIGXCPU || self == Signal::SIGXFSZ
    }

    /// Whether this process ignores it: by default, or because its parent did, as `nohup` and shells do for
    /// background jobs.
    pub fn is_ignored(self) -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: sigaction only writes the current action, which is read only if that succeeded.
        unsafe {
            let asked = libc::sigaction(self.0.into(), std::ptr::null(), action.as_mut_ptr());
            Errno::result(asked).is_ok() && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }
}

impl From<Signal> for SignalNumber {
    fn from(signal: Signal) -> SignalNumber {
        SignalNumber(signal as u8)
    }
}

impl PartialEq<Signal> for SignalNumber {
    fn eq(&self, signal: &Signal) -> bool {
        self.0 == *signal as u8
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(i32::from(self.0)) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "SIGRTMIN+{}", self.0.saturating_sub(FIRST_REAL_TIME)),
        }
    }
}

/// A set of signals. nix's has no way to add a real-time signal.
pub fn set_of(signals: impl Iterator<Item = SignalNumber>) -> SigSet {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the whole set, and sigaddset changes it; neither keeps the pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.0.into());
        }
        SigSet::from_sigset_t_unchecked(set.assume_init())
    }
}

/// Ignores a signal in this process, and in the programs it starts.
pub fn ignore(signal: Signal) -> nix::Result<()> {
    dispose(signal, SigHandler::SigIgn)
}

/// Gives SIGCHLD its default again. A process whose parent ignored it cannot learn how its own children end.
pub fn notice_children() -> nix::Result<()> {
    dispose(Signal::SIGCHLD, SigHandler::SigDfl)
}

fn dispose(signal: Signal, how: SigHandler) -> nix::Result<()> {
    let action = SigAction::new(how, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither ignoring a signal nor its default runs a handler.
    unsafe { sigaction(signal, &action) }.map(drop)
}
