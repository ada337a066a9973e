//! Processes by number: what /proc shows of them, and signals that cannot reach another process when the
//! number is reused.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;
pub use nix::sys::signal::Signal;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::poll::{self, PollFlags};

/// What `/proc/PID/stat` shows of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    /// Whether it has a controlling terminal.
    pub has_terminal: bool,
    /// Clock ticks from boot to its start. With the pid they identify a process within one boot.
    pub start_ticks: u64,
    /// It has ended, and its parent may not have waited for it yet.
    pub is_dead: bool,
}

impl ProcessStat {
    /// `None` if there is no such process, or only another user may look at it.
    ///
    /// # Errors
    /// It is unknown whether there is one, for example because the limit on open files is reached.
    pub fn read(pid: i32) -> Result<Option<ProcessStat>> {
        let path = format!("/proc/{pid}/stat");
        // One read returns the whole line. Asking for the size first, growing a buffer and reading to the
        // end would double the system calls, for each of many VMs.
        let mut line = [0; 4096];
        let read = read_of(&path, |mut file| file.read(&mut line))?;
        read.map(|length| {
            ProcessStat::parse(&line[..length])
                .with_context(|| format!("cannot parse the contents of {path}"))
        })
        .transpose()
    }

    fn parse(line: &[u8]) -> Option<ProcessStat> {
        let open = line.iter().position(|&byte| byte == b'(')?;
        let fields = stat_fields(line)?;
        Some(ProcessStat {
            pid: str::from_utf8(&line[..open]).ok()?.trim_end().parse().ok()?,
            is_dead: matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            has_terminal: *fields.get(4)? != "0",
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The fields of a line of `PID (NAME) STATE PPID ...` from STATE on, see proc_pid_stat(5). NAME may be any bytes, blanks,
/// parentheses and newlines included; only the last parenthesis ends it.
fn stat_fields(line: &[u8]) -> Option<Vec<&str>> {
    let close = line.iter().rposition(|&byte| byte == b')')?;
    Some(str::from_utf8(line.get(close + 1..)?).ok()?.split_ascii_whitespace().collect())
}

/// What all threads of a process are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadActivity {
    /// Clock ticks of processor time that the living ones have used.
    pub cpu_ticks: u64,
    /// Whether each of them waits for something but a processor.
    pub all_sleep: bool,
}

impl ThreadActivity {
    /// `None` if there is no such process, or only another user may look at it.
    pub fn read(pid: i32) -> Option<ThreadActivity> {
        let mut activity = ThreadActivity { cpu_ticks: 0, all_sleep: true };
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            let line = fs::read(thread.ok()?.path().join("stat")).ok()?;
            let fields = stat_fields(&line)?;
            activity.all_sleep &= *fields.first()? == "S";
            for ticks in fields.get(11..13)? {
                activity.cpu_ticks += ticks.parse::<u64>().ok()?;
            }
        }
        Some(activity)
    }
}

/// The numbers of all processes.
pub fn pids() -> Result<Vec<i32>> {
    let list = || -> io::Result<Vec<i32>> {
        let names = fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    };
    list().context("cannot list /proc")
}

/// The number in a field of this process's `/proc/self/status`, read in base `radix`.
pub fn own_status(field: &str, radix: u32) -> Option<u64> {
    status_field(&fs::read("/proc/self/status").ok()?, field, radix)
}

/// Parses lines of `FIELD:\tVALUE`. The first is the process's name, which may be any bytes.
fn status_field(status: &[u8], field: &str, radix: u32) -> Option<u64> {
    let status = String::from_utf8_lossy(status);
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(value.trim(), radix).ok()
}

/// Reads a file of `/proc/PID`; `None` if that process has ended, or only another user may read it.
pub fn read_of<T>(path: &str, read: impl FnOnce(File) -> io::Result<T>) -> Result<Option<T>> {
    let is_gone = |error: &io::Error| {
        // ESRCH comes from reading a file that is open.
        error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    };
    match File::open(path).and_then(read) {
        Ok(result) => Ok(Some(result)),
        Err(error) if is_gone(&error) || error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// A descriptor of one process, readable when it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process that has this pid and started at that time; `None` if it has ended.
    ///
    /// # Errors
    /// It is unknown whether it has ended, for example because the limit on open files is reached.
    pub fn open(pid: i32, start_ticks: u64) -> Result<Option<PidFd>> {
        let Some(pid) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            // Older kernels call the number of a thread invalid.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open process {pid}")),
        };
        // Checked after opening: either this is about the process that is open, or that one has ended and
        // the check fails.
        let stat = ProcessStat::read(pid.as_raw_pid())?;
        let is_it = stat.is_some_and(|stat| stat.start_ticks == start_ticks && !stat.is_dead);
        Ok(is_it.then_some(PidFd(fd)))
    }

    /// Whether there is a process with this pid.
    pub fn exists(pid: i32) -> bool {
        let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw);
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        process.is_some_and(|process| !PidFd(process).wait(Duration::ZERO).unwrap_or(false))
    }

    /// Sends a signal. A process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal as i32);
        let signal = signal.context("the signal has no name")?;
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("cannot signal the process"),
        }
    }

    /// Waits until the process has ended, at most `limit`. Returns whether it has.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(limit);
        poll::wait_for(self.as_fd(), PollFlags::POLLIN, deadline)
            .context("cannot wait for the process")
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_a_commands_name() {
        let names: [&[u8]; 6] =
            [b"sh", b"a) S 1 (b", b") R 9 (", b"two\nlines", b"x\xff\xfe)", b""];
        for name in names {
            let rest = b") S 70 60 61 34816 71 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2\n";
            let line = [b"71 (", name, rest].concat();
            let expected = ProcessStat {
                pid: 71,
                parent: 70,
                session: 61,
                has_terminal: true,
                start_ticks: 4711,
                is_dead: false,
            };
            assert_eq!(ProcessStat::parse(&line), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn zombies_are_dead_and_lines_that_are_cut_off_are_refused() {
        let line = b"9 (a) Z 1 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 12 0";
        let stat = ProcessStat::parse(line).unwrap();
        assert!(stat.is_dead && !stat.has_terminal);
        for cut_off in [&line[..40], b"9 (a", b"9 )(", b""] {
            assert_eq!(ProcessStat::parse(cut_off), None);
        }
    }

    #[test]
    fn a_thread_that_computes_is_no_sleep() {
        let me = std::process::id() as i32;
        let before = ThreadActivity::read(me).unwrap();
        assert!(!before.all_sleep, "this thread runs");
        while ThreadActivity::read(me).unwrap().cpu_ticks == before.cpu_ticks {}
        assert_eq!(ThreadActivity::read(-1), None);
    }

    #[test]
    fn a_field_of_the_status_is_found_whatever_the_name_is() {
        let status = b"Name:\tm\xff\nUmask:\t0022\nCapEff:\t00000000a80425fb\nState:\tS\n";
        assert_eq!(status_field(status, "Umask", 8), Some(0o22));
        assert_eq!(status_field(status, "CapEff", 16), Some(0xa804_25fb));
        for missing in ["Cap", "State", "Threads"] {
            assert_eq!(status_field(status, missing, 16), None);
        }
    }
}
