//! Processes that were recorded by an earlier command: are they alive, and how to end them without
//! ever signalling a stranger.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::clock;
use crate::model::{BootId, ProcessId, ProcessLiveness};
use crate::sys::process::{PidFd, ProcessStat, pids, read_of};

/// The identity of a process that is alive now.
pub fn identify(pid: i32) -> Result<ProcessId> {
    let stat = ProcessStat::read(pid)?.with_context(|| format!("process {pid} is gone"))?;
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
    let stat = ProcessStat::read(process.pid)?;
    Ok(stat.is_some_and(|stat| stat.start_ticks == process.start_ticks && !stat.is_dead))
}

/// The permissions that this process gives to no new file. The system call for it can only set others.
pub fn umask() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read the umask")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).context("no umask is known")
}

/// Opens a recorded process; `None` if it has ended.
///
/// # Errors
/// Whether it has ended cannot be told.
pub fn open(process: &ProcessId) -> Result<Option<PidFd>> {
    if process.boot_id != clock::boot_id()? {
        return Ok(None);
    }
    PidFd::open(process.pid, process.start_ticks)
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
        read_of(&path, |mut file| file.read_to_end(&mut environment))?;
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
    for pid in pids()? {
        // The start time is taken first: if the pid is reused in between, it will not match later.
        let Some(stat) = ProcessStat::read(pid)? else { continue };
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
    fn this_process_is_alive_and_only_under_its_own_identity() {
        let me = identify_self().unwrap();
        let boot = clock::boot_id().unwrap();
        assert_eq!(liveness(&me, &boot).unwrap(), ProcessLiveness::Alive);
        assert!(open(&me).unwrap().is_some());

        let reused = ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() };
        assert_eq!(liveness(&reused, &boot).unwrap(), ProcessLiveness::Dead);
        assert!(open(&reused).unwrap().is_none());

        let elsewhere = ProcessId { boot_id: BootId("another".into()), ..me };
        assert_eq!(liveness(&elsewhere, &boot).unwrap(), ProcessLiveness::OtherBoot);
        assert!(open(&elsewhere).unwrap().is_none());
    }
}
