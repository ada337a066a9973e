//! Processes that were recorded by an earlier command: are they alive, and how to end them without
//! ever signalling a stranger.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::clock;
use crate::model::{BootId, ProcessId, ProcessLiveness};

/// The identity of a process that is alive now.
pub fn identify(pid: i32) -> Result<ProcessId> {
    let stat = Stat::read(pid)?.with_context(|| format!("process {pid} is gone"))?;
    Ok(ProcessId { pid, start_ticks: stat.start_ticks, boot_id: clock::boot_id()? })
}

/// The identity of this very process.
pub fn identify_self() -> Result<ProcessId> {
    identify(std::process::id() as i32)
}

/// Whether a recorded process still runs. `boot` is the current boot, read once by the caller.
///
/// Errors: it cannot be told. Not being able to look is not seeing nothing: who is out of descriptors
/// must not take a living VMM for a dead one.
pub fn liveness(process: &ProcessId, boot: &BootId) -> Result<ProcessLiveness> {
    if process.boot_id != *boot {
        return Ok(ProcessLiveness::OtherBoot);
    }
    Ok(match is_running(process)? {
        true => ProcessLiveness::Alive,
        false => ProcessLiveness::Dead,
    })
}

/// Whether a process of this boot runs under its recorded identity.
fn is_running(process: &ProcessId) -> Result<bool> {
    let stat = Stat::read(process.pid)?;
    Ok(stat.is_some_and(|stat| stat.start_ticks == process.start_ticks && !stat.is_dead()))
}

/// The two fields of `/proc/<pid>/stat` that matter here.
struct Stat {
    state: u8,
    start_ticks: u64,
}

impl Stat {
    /// `None` if there is no such process.
    fn read(pid: i32) -> Result<Option<Stat>> {
        let path = format!("/proc/{pid}/stat");
        // One read gives all of it, as of every line of /proc that fits. Asking for the size first,
        // growing a buffer and reading on to the end would double the calls, for each of many VMs.
        let mut text = [0; 4096];
        let read = read_if_ours(&path, |mut file| file.read(&mut text))?;
        let Some(length) = read else { return Ok(None) };
        match Stat::parse(&text[..length]) {
            Some(stat) => Ok(Some(stat)),
            None => bail!("/proc/{pid}/stat is not understood"),
        }
    }

    fn parse(text: &[u8]) -> Option<Stat> {
        // The command's name is in parentheses and may itself hold spaces and parentheses.
        let close = text.iter().rposition(|&b| b == b')')?;
        let fields = std::str::from_utf8(text.get(close + 2..)?).ok()?;
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // Field 22, counted from the state, which is field 3.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Stat { state, start_ticks })
    }

    /// A zombie is dead, whoever has yet to collect it.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The permissions that this process gives to no new file. The system call for it can only set others.
pub fn umask() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read the umask")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).context("no umask is known")
}

/// Reads a file of `/proc/<pid>`; `None` if that process is gone, or another user's.
fn read_if_ours<T>(path: &str, read: impl FnOnce(File) -> std::io::Result<T>) -> Result<Option<T>> {
    let gone = |error: &std::io::Error| {
        // The second is said once the file is open.
        error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    };
    match File::open(path).and_then(read) {
        Ok(result) => Ok(Some(result)),
        Err(error) if gone(&error) || error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// A handle on one process, immune to reuse of its pid.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens a recorded process; `None` if it is gone.
    ///
    /// The descriptor is opened first and the identity checked after: whatever the check sees then
    /// belongs to the process the descriptor holds, or that one is dead and the check fails.
    pub fn open(process: &ProcessId) -> Result<Option<PidFd>> {
        let Some(pid) = Some(process.pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Ok(None);
        };
        if process.boot_id != clock::boot_id()? {
            return Ok(None);
        }
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            // The number is a thread's by now, which older kernels call invalid.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open process {pid:?}"));
            }
        };
        Ok(is_running(process)?.then_some(PidFd(fd)))
    }

    /// Sends SIGTERM. A process that is already gone is no error.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends SIGKILL. A process that is already gone is no error.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("cannot signal the process"),
        }
    }

    /// Waits until the process is gone, at most `limit`. Returns whether it is.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the process"),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The variable every process of a VM carries, naming the VM's directory, so that a process without
/// a record can be recognised as ours.
pub const MARK: &str = "MAYFLY_VM_DIR";

/// What processes of VMs are known by.
#[derive(Debug, Clone)]
pub struct ProcessMarks {
    /// How the variable begins: [`MARK`], and a VM's directory or one above it.
    variable: String,
    /// Whether that is the whole of it.
    whole: bool,
    /// Root directories by device and inode, each with the VM's directory it stands for.
    pub roots: BTreeMap<(u64, u64), String>,
}

impl ProcessMarks {
    /// Those of the VM with this directory.
    pub fn of(directory: String) -> ProcessMarks {
        let variable = format!("{MARK}={directory}");
        ProcessMarks { variable, whole: true, roots: BTreeMap::new() }
    }

    /// Those of all VMs with a directory in this one.
    pub fn below(directory: &Path) -> ProcessMarks {
        let variable = format!("{MARK}={}/", directory.display());
        ProcessMarks { variable, whole: false, roots: BTreeMap::new() }
    }

    /// The VM's directory, if a process is one of its.
    fn recognise(&self, pid: i32) -> Result<Option<String>> {
        let mut environment = Vec::new();
        let path = format!("/proc/{pid}/environ");
        read_if_ours(&path, |mut file| file.read_to_end(&mut environment))?;
        let is_mark = |variable: &&[u8]| match self.whole {
            true => *variable == self.variable.as_bytes(),
            false => variable.starts_with(self.variable.as_bytes()),
        };
        if let Some(mark) = environment.split(|&byte| byte == 0).find(is_mark) {
            return Ok(Some(String::from_utf8_lossy(&mark[MARK.len() + 1..]).into_owned()));
        }
        if self.roots.is_empty() {
            return Ok(None);
        }
        let root = fs::metadata(format!("/proc/{pid}/root"));
        Ok(root.ok().and_then(|root| self.roots.get(&(root.dev(), root.ino())).cloned()))
    }
}

/// Every living process with such a mark, and the VM's directory it stands for. Processes of other
/// users are not readable, and so not found.
pub fn find(marks: &ProcessMarks) -> Result<Vec<(ProcessId, String)>> {
    let mut found = Vec::new();
    let boot = clock::boot_id()?;
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // The start time is taken first: if the pid is reused in between, it will not match later.
        let Some(stat) = Stat::read(pid)? else { continue };
        if let Some(directory) = marks.recognise(pid)? {
            let boot_id = boot.clone();
            found.push((ProcessId { pid, start_ticks: stat.start_ticks, boot_id }, directory));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_hostile_command_name() {
        let text = b"42 (a) S) 1 (Z) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21\n";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.start_ticks), (b'R', 777));
        assert!(Stat::parse(b"42 (x").is_none());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn this_process_is_alive_and_only_under_its_own_identity() {
        let me = identify_self().unwrap();
        let boot = clock::boot_id().unwrap();
        assert_eq!(liveness(&me, &boot).unwrap(), ProcessLiveness::Alive);
        assert!(PidFd::open(&me).unwrap().is_some());

        let reused = ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() };
        assert_eq!(liveness(&reused, &boot).unwrap(), ProcessLiveness::Dead);
        assert!(PidFd::open(&reused).unwrap().is_none());

        let elsewhere = ProcessId { boot_id: BootId("another".into()), ..me };
        assert_eq!(liveness(&elsewhere, &boot).unwrap(), ProcessLiveness::OtherBoot);
        assert!(PidFd::open(&elsewhere).unwrap().is_none());
    }
}
