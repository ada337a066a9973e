//! Processes that an earlier command recorded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result};

use super::clock;
use crate::model::{BootId, ProcessId, ProcessLiveness, ProcessPlace, Refusal, RefusalKind};
use crate::sys::process::{PidFd, ProcessStat, own_status};

/// The identity of a living process.
pub fn identify(pid: i32) -> Result<ProcessId> {
    check_proc()?;
    let stat = ProcessStat::read(pid)?.with_context(|| format!("process {pid} is gone"))?;
    let place = Some(here()?.clone());
    Ok(ProcessId { pid, start_ticks: stat.start_ticks, boot_id: clock::boot_id()?, place })
}

/// The identity of this process.
pub fn identify_self() -> Result<ProcessId> {
    identify(std::process::id() as i32)
}

/// The host and the pid namespace of this process, which do not change while it runs.
pub fn here() -> Result<&'static ProcessPlace> {
    static HERE: OnceLock<ProcessPlace> = OnceLock::new();
    if let Some(here) = HERE.get() {
        return Ok(here);
    }
    let host = nix::unistd::gethostname().context("cannot read the host's name")?;
    // A host without one is recognised by its name alone, and so is one that has not made it yet.
    let machine_id = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
    let namespace =
        fs::metadata("/proc/self/ns/pid").context("cannot look at the pid namespace")?;
    Ok(HERE.get_or_init(|| ProcessPlace {
        host: host.to_string_lossy().into_owned(),
        machine_id: Some(machine_id).filter(|id| !id.is_empty()),
        pid_namespace: namespace.ino(),
    }))
}

/// Checks that /proc shows the processes of this pid namespace. In another's, a pid is another process.
///
/// # Errors
/// `Host` if it does not, as after `unshare --pid` without `--mount-proc`.
pub fn check_proc() -> Result<()> {
    let me = fs::read_link("/proc/self").context("cannot read /proc/self")?;
    if me.as_os_str() == std::process::id().to_string().as_str() {
        return Ok(());
    }
    Err(Refusal::new(RefusalKind::Host, "/proc shows the processes of another pid namespace")
        .hint("mount it anew: mount -t proc proc /proc")
        .into())
}

/// Whether a recorded process still runs. `boot` is the current boot, read once by the caller.
///
/// # Errors
/// /proc cannot be read, for example because the limit on open files is reached. A living process must not be
/// taken for a dead one then.
pub fn liveness(process: &ProcessId, boot: &BootId) -> Result<ProcessLiveness> {
    if process.is_elsewhere(here()?, boot) {
        return Ok(ProcessLiveness::Elsewhere);
    }
    if process.boot_id != *boot {
        return Ok(ProcessLiveness::OtherBoot);
    }
    let stat = ProcessStat::read(process.pid)?;
    let is_it = |stat: &ProcessStat| stat.start_ticks == process.start_ticks && !stat.is_dead;
    let is_alive = stat.as_ref().is_some_and(is_it);
    Ok(if is_alive { ProcessLiveness::Alive } else { ProcessLiveness::Dead })
}

/// This process's umask. The system call umask(2) cannot read it without changing it.
pub fn umask() -> Result<u32> {
    let mask = own_status("Umask", 8).and_then(|mask| u32::try_from(mask).ok());
    mask.context("the umask is unknown")
}

/// Opens a recorded process; `None` if it has ended or is elsewhere.
///
/// # Errors
/// As for [`liveness`].
pub fn open(process: &ProcessId) -> Result<Option<PidFd>> {
    let boot = clock::boot_id()?;
    if process.boot_id != boot || process.is_elsewhere(here()?, &boot) {
        return Ok(None);
    }
    check_proc()?;
    PidFd::open(process.pid, process.start_ticks)
}

/// Whether there is a process with the pid of a recorded one that /proc does not show. Where `hidepid` is in use, it shows
/// an ordinary user no process that cannot be dumped, as network helpers are. Whether it is the recorded one is unknown.
pub fn is_hidden(process: &ProcessId) -> Result<bool> {
    if process.boot_id != clock::boot_id()? || Path::new(&format!("/proc/{}", process.pid)).exists()
    {
        return Ok(false);
    }
    Ok(PidFd::exists(process.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_is_known_whatever_the_program_is_called() {
        let name = fs::read("/proc/self/comm").unwrap();
        fs::write("/proc/self/comm", b"m\xffyfly").unwrap();
        let umask = umask();
        fs::write("/proc/self/comm", name.trim_ascii_end()).unwrap();
        assert!(umask.unwrap() <= 0o777);
    }

    #[test]
    fn this_process_is_alive_and_only_under_its_own_identity() {
        let me = identify_self().unwrap();
        let boot = clock::boot_id().unwrap();
        assert_eq!(liveness(&me, &boot).unwrap(), ProcessLiveness::Alive);
        assert!(open(&me).unwrap().is_some());

        let reused = ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() };
        assert_eq!(liveness(&reused, &boot).unwrap(), ProcessLiveness::Dead);
        assert!(open(&reused).unwrap().is_none());

        let earlier = ProcessId { boot_id: BootId("another".into()), ..me.clone() };
        assert_eq!(liveness(&earlier, &boot).unwrap(), ProcessLiveness::OtherBoot);
        assert!(open(&earlier).unwrap().is_none());

        let place = ProcessPlace { pid_namespace: 1, ..here().unwrap().clone() };
        let elsewhere = ProcessId { place: Some(place), ..me };
        assert_eq!(liveness(&elsewhere, &boot).unwrap(), ProcessLiveness::Elsewhere);
        assert!(open(&elsewhere).unwrap().is_none());
    }
}
