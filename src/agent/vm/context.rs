//! The state that all sessions share, and what they change in it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::reboot::RebootMode;
use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

use super::setup;
use crate::agent::boot::mounts::GuestMounts;
use crate::agent::processes::{CgroupRoot, ChildReaper};
use crate::protocol::{AgentInfo, SetupRequest};
use crate::sys::kernel;

/// Shared by all sessions.
#[derive(Debug)]
pub struct AgentContext {
    pub reaper: Arc<ChildReaper>,
    pub mode: AgentMode,
    /// What the agent tells every client about itself.
    pub info: AgentInfo,
    /// Expires at the end of the TTL. Its clock also counts while the machine is suspended. A VM that is
    /// never reaped ends by itself, and then uses a disk but no CPU.
    pub(super) ttl: TimerFd,
    vm_id: Mutex<Option<OsString>>,
    /// Whether the VM is being shut down.
    pub ending: AtomicBool,
}

/// Where the agent runs.
#[derive(Debug)]
pub enum AgentMode {
    /// A guest; the agent is its first process.
    Guest { cgroups: Option<CgroupRoot>, mounts: GuestMounts, power: RebootMode },
    /// The host, as a plain process; with the directory commands run in and the one for their secrets.
    Process { root: PathBuf, secrets: Option<PathBuf> },
}

impl AgentContext {
    /// A context without a TTL, with a new reaper.
    ///
    /// # Errors
    /// The kernel has no timer for the TTL.
    pub fn new(mode: AgentMode) -> Result<Arc<AgentContext>> {
        let ttl = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC);
        let init = matches!(mode, AgentMode::Guest { .. });
        let (version, kernel) = (env!("CARGO_PKG_VERSION").into(), kernel::release());
        Ok(Arc::new(AgentContext {
            mode,
            info: AgentInfo { version, kernel, init },
            ttl: ttl.context("create a timer")?,
            reaper: ChildReaper::start().context("start the thread that collects children")?,
            vm_id: Mutex::new(std::env::var_os("MAYFLY_VM")),
            ending: AtomicBool::new(false),
        }))
    }

    /// Whether the agent is the first process of a guest.
    pub fn is_guest(&self) -> bool {
        self.info.init
    }

    /// The cgroups of commands, if there are any.
    pub fn cgroups(&self) -> Option<&CgroupRoot> {
        match &self.mode {
            AgentMode::Guest { cgroups, .. } => cgroups.as_ref(),
            AgentMode::Process { .. } => None,
        }
    }

    /// The VM's id, if it is known.
    pub fn vm_id(&self) -> Option<OsString> {
        self.vm_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies the host's settings. A plain process takes only its id and TTL: it shares clock, name
    /// and random numbers with the host.
    ///
    /// # Errors
    /// The step that failed.
    pub fn set_up(&self, setup: &SetupRequest) -> Result<()> {
        if self.is_guest() {
            setup::apply(setup)?;
        }
        *self.vm_id.lock().unwrap_or_else(PoisonError::into_inner) = Some((&setup.vm_id).into());
        self.set_ttl(setup.ttl_ms)
    }

    /// Replaces the TTL, in milliseconds from now; `None` removes it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_ttl(&self, ttl_ms: Option<u64>) -> Result<()> {
        let set = match ttl_ms {
            // A timer set to zero would never expire.
            Some(ttl_ms) => {
                let ttl = TimeSpec::from_duration(Duration::from_millis(ttl_ms.max(1)));
                self.ttl.set(Expiration::OneShot(ttl), TimerSetTimeFlags::empty())
            }
            None => self.ttl.unset(),
        };
        set.context("set the TTL")
    }
}
