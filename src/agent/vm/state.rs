//! What the agent lives in: a guest of its own, whose first process it is, or the host.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::RebootMode;
use nix::unistd::{AccessFlags, access};
use std::os::fd::AsFd;

use super::setup;
use super::watchdog::Watchdog;
use crate::agent::boot::mounts::Mounts;
use crate::agent::console;
use crate::agent::job::user::{self, Account};
use crate::agent::processes::{Cgroups, Reaper, family};
use crate::protocol::{AgentInfo, Setup};

/// What a guest's commands find as `PATH`: Debian's for root.
const GUEST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every Unix has.
const PLAIN_SHELL: &str = "/bin/sh";

/// How long processes of the past may take to be gone after they were killed.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Shared by all sessions.
#[derive(Debug)]
pub struct World {
    pub reaper: Arc<Reaper>,
    pub kind: WorldKind,
    watchdog: Watchdog,
    vm_id: Mutex<Option<OsString>>,
    ending: AtomicBool,
}

/// The two worlds.
#[derive(Debug)]
pub enum WorldKind {
    /// A guest; the agent is its first process.
    Guest { cgroups: Option<Cgroups>, mounts: Mounts, power: RebootMode },
    /// A plain process of the host, with the directory commands run in and the one for their secrets.
    Process { root: PathBuf, secrets: Option<PathBuf> },
}

impl World {
    /// A world and the thread that ends it when its time is over.
    ///
    /// # Errors
    /// Where the kernel has no timers for the TTL.
    pub fn new(kind: WorldKind, reaper: Arc<Reaper>) -> nix::Result<Arc<World>> {
        let world = Arc::new(World {
            reaper,
            kind,
            watchdog: Watchdog::new()?,
            vm_id: Mutex::new(std::env::var_os("MAYFLY_VM")),
            ending: AtomicBool::new(false),
        });
        let watched = Arc::clone(&world);
        std::thread::spawn(move || watched.end_when_time_is_over());
        Ok(world)
    }

    /// What the agent says of itself.
    pub fn info(&self) -> AgentInfo {
        let kernel = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        AgentInfo { version: env!("CARGO_PKG_VERSION").into(), kernel, init: self.is_guest() }
    }

    /// Whether this is a guest.
    pub fn is_guest(&self) -> bool {
        matches!(self.kind, WorldKind::Guest { .. })
    }

    /// The commands' cgroups, where there are any.
    pub fn cgroups(&self) -> Option<&Cgroups> {
        match &self.kind {
            WorldKind::Guest { cgroups, .. } => cgroups.as_ref(),
            WorldKind::Process { .. } => None,
        }
    }

    /// Applies what the host says of the outside. A plain process shares clock, name and randomness
    /// with the host and only takes its TTL and id.
    ///
    /// # Errors
    /// What failed, for people.
    pub fn set_up(&self, setup: &Setup) -> Result<(), String> {
        if self.is_guest() {
            setup::apply(setup)?;
        }
        *self.vm_id.lock().unwrap_or_else(PoisonError::into_inner) = Some((&setup.vm_id).into());
        self.set_ttl(setup.ttl_ms)
    }

    /// Ends the world in so many milliseconds, whatever was said before; `None` lets it be.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn set_ttl(&self, ttl_ms: Option<u64>) -> Result<(), String> {
        self.watchdog
            .set(ttl_ms.map(Duration::from_millis))
            .map_err(|errno| format!("set the TTL: {errno}"))
    }

    /// Who runs a command; `None` where the agent's own user does and that needs no switch.
    ///
    /// # Errors
    /// The user or group that is not known.
    pub fn account(&self, spec: Option<&str>) -> Result<Option<Account>, String> {
        let read = |path| fs::read(path).unwrap_or_default();
        let resolve = |spec: &str| user::resolve(spec, &read("/etc/passwd"), &read("/etc/group"));
        match spec {
            Some(spec) => resolve(spec).map(Some),
            None if self.is_guest() => resolve("0").map(Some),
            None => Ok(None),
        }
    }

    /// The variables a command has unless its request says otherwise.
    pub fn variables(&self, account: Option<&Account>) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| variables.push((name.into(), value));
        match &self.kind {
            WorldKind::Guest { .. } => {
                set("PATH", GUEST_PATH.into());
                set("LANG", "C.UTF-8".into());
            }
            WorldKind::Process { root, .. } => {
                // The last is the mark by which the host finds what is left of a VM.
                for name in ["PATH", "HOME", "MAYFLY_VM_DIR"] {
                    if let Some(value) = std::env::var_os(name) {
                        set(name, value);
                    }
                }
                if std::env::var_os("HOME").is_none() {
                    set("HOME", root.clone().into());
                }
            }
        }
        if let Some(account) = account {
            set("HOME", account.home.clone());
            set("USER", account.name.clone());
            set("LOGNAME", account.name.clone());
            set("SHELL", account.shell.clone());
        }
        if let Some(vm_id) = &*self.vm_id.lock().unwrap_or_else(PoisonError::into_inner) {
            set("MAYFLY_VM", vm_id.clone());
        }
        variables
    }

    /// The shell a user logs in with: the one on record, if it is there.
    pub fn shell(&self, account: Option<&Account>) -> OsString {
        let on_record = match account {
            Some(account) => Some(account.shell.clone()),
            None => {
                let me = nix::unistd::geteuid().to_string();
                self.account(Some(&me)).ok().flatten().map(|account| account.shell)
            }
        };
        let is_there = |shell: &OsString| {
            shell.as_bytes().starts_with(b"/")
                && access(shell.as_os_str(), AccessFlags::X_OK).is_ok()
        };
        on_record.filter(is_there).unwrap_or_else(|| PLAIN_SHELL.into())
    }

    /// Where a command runs unless its request says otherwise: directories to try in order.
    pub fn directories(&self, account: Option<&Account>) -> Vec<OsString> {
        match (&self.kind, account) {
            (WorldKind::Process { root, .. }, _) => vec![root.clone().into()],
            (_, Some(account)) if account.home.as_bytes().starts_with(b"/") => {
                vec![account.home.clone(), "/".into()]
            }
            _ => vec!["/".into()],
        }
    }

    /// Ends everything: asks processes to end, kills those that have not after `grace`, and powers
    /// off or exits. Only the first caller does; others wait for the end.
    pub fn end(&self, grace: Duration) -> ! {
        if self.ending.swap(true, Ordering::SeqCst) {
            loop {
                std::thread::park();
            }
        }
        match &self.kind {
            WorldKind::Process { secrets, .. } => {
                self.end_processes(grace);
                if let Some(secrets) = secrets {
                    let _ = fs::remove_dir_all(secrets);
                }
                std::process::exit(0);
            }
            WorldKind::Guest { cgroups, mounts, power } => {
                // Stopped processes hear the first signal only when they continue.
                signal_everyone(libc::SIGTERM);
                family::hang_up_descendants();
                signal_everyone(libc::SIGCONT);
                if !self.reaper.wait_for_none(grace) {
                    if let Some(cgroups) = cgroups {
                        cgroups.kill_all();
                    }
                    signal_everyone(libc::SIGKILL);
                    self.reaper.wait_for_none(KILL_LIMIT);
                }
                mounts.settle();
                let error = nix::sys::reboot::reboot(*power);
                console::say(&format!("cannot power off: {error:?}"));
                // The kernel panics when its first process ends, and `panic=-1` ends the VM.
                std::process::exit(1);
            }
        }
    }

    fn end_processes(&self, grace: Duration) {
        family::signal_descendants(libc::SIGTERM);
        family::hang_up_descendants();
        family::signal_descendants(libc::SIGCONT);
        if self.reaper.wait_for_none(grace) {
            return;
        }
        let deadline = Instant::now() + KILL_LIMIT;
        // Each round also finds what was forked during the one before.
        while Instant::now() < deadline {
            family::signal_descendants(libc::SIGSTOP);
            family::signal_descendants(libc::SIGKILL);
            if self.reaper.wait_for_none(Duration::from_millis(20)) {
                return;
            }
        }
    }

    fn end_when_time_is_over(&self) {
        loop {
            let mut fds = [PollFd::new(self.watchdog.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::NONE).is_ok() {
                console::say("the VM's time is over");
                self.end(Duration::from_millis(500));
            }
        }
    }
}

/// Signals every process but the first.
fn signal_everyone(number: i32) {
    // SAFETY: kill takes two integers; -1 from the first process means all others.
    unsafe { libc::kill(-1, number) };
}
