//! The registry's record of one VM, and the transitions it may make.
//!
//! ```text
//!   creating ──▶ created ──▶ starting ──▶ started ──▶ stopping ──▶ stopped
//!       │           │           │  ▲         │            │           │ │
//!       ▼           │           │  └─────────┼────────────┼───────────┘ │
//!   (rolled back)   └───────────┴────────────┴─▶ removing ◀┴───────────┘
//!                                                   │
//!                                                   ▼
//!                                               (no record)
//!
//!   started ──▶ pooled ──▶ starting, as the VM of the command that takes it
//! ```
//!
//! `creating`, `starting`, `stopping` and `removing` mean that an operation is under way or was
//! abandoned; the table in [`super::reconcile`] says what to do then. A phase owns the data it needs, so
//! that a running VM without a process cannot be represented. A transition from another phase is refused
//! with `WrongState`. A `pooled` VM waits for a command that needs one like it.

use serde::{Deserialize, Serialize};

use super::id::{VmId, VmName};
use super::manifest::{VmInstance, VmManifest};
use super::network::{NetworkProcess, NetworkReport};
use super::phase::VmPhase;
use super::process::{ProcessId, ProcessPlace};
use super::published_port::PublishedPort;
use super::refusal::{Refusal, RefusalKind};
use super::time::{ClockReading, VmExpiry};

/// One VM in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmRecord {
    pub manifest: VmManifest,
    pub expiry: VmExpiry,
    pub state: VmPhase,
    /// The command whose operation is under way or was abandoned; `None` if the VM is at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<ProcessId>,
    /// Why the guest of a started VM waits. Only shown, never recorded.
    #[serde(skip)]
    pub waits: Option<String>,
    /// Only shown, never recorded.
    #[serde(skip)]
    pub network: NetworkReport,
}

impl VmRecord {
    pub fn id(&self) -> &VmId {
        &self.manifest.vm_id
    }

    pub fn has_expired(&self, now: &ClockReading) -> bool {
        self.expiry.has_passed(now)
    }

    /// The process that decides what the record means: the VMM, or else the command that changes the VM.
    pub fn process(&self) -> Option<&ProcessId> {
        self.state.instance().map(|instance| &instance.process).or(self.command.as_ref())
    }

    /// The published ports: those that the helper of a running VM listens on, or else those that its user wants.
    pub fn published(&self) -> &[PublishedPort] {
        let network = self.state.instance().and_then(|instance| instance.network.as_ref());
        network.map_or(&self.manifest.network.publish, |network| &network.published)
    }

    /// The error that stopped the VM, or why its guest waits.
    pub fn last_error(&self) -> Option<&str> {
        match &self.state {
            VmPhase::Stopped { last_error } => last_error.as_deref(),
            VmPhase::Started { .. } => self.waits.as_deref(),
            _ => None,
        }
    }

    /// The running instance.
    ///
    /// # Errors
    /// `WrongState` if the VM is not started, with the reason; `Busy` if it is elsewhere.
    pub fn running(&self) -> Result<&VmInstance, Refusal> {
        if let VmPhase::Elsewhere { place } = &self.state {
            return Err(elsewhere(self.manifest.display_name(), place));
        }
        let VmPhase::Started { instance } = &self.state else {
            let why = match self.last_error() {
                Some(error) => format!(" ({})", error.lines().next().unwrap_or_default()),
                None => String::new(),
            };
            return Err(self.refuse(&format!("is {}{why}, not started", self.state.name())).hint(
                match self.state {
                    VmPhase::Created | VmPhase::Stopped { .. } => {
                        format!("start it with 'mayfly start {}'", self.manifest.display_name())
                    }
                    VmPhase::Pooled { .. } => IN_POOL.into(),
                    _ => "wait for the other operation to end, or see 'mayfly status'".into(),
                },
            ));
        };
        Ok(instance)
    }

    /// creating → created.
    pub fn finish_create(&mut self) -> Result<(), Refusal> {
        if self.state != VmPhase::Creating {
            return Err(self.refuse("was deleted while it was being created"));
        }
        self.state = VmPhase::Created;
        Ok(())
    }

    /// created or stopped → starting.
    pub fn begin_start(&mut self) -> Result<(), Refusal> {
        let is_down = matches!(self.state, VmPhase::Created | VmPhase::Stopped { .. });
        self.pass_to(VmPhase::Starting { instance: None }, is_down, "cannot be started")
    }

    /// Records the process that will become the VMM.
    pub fn launched(&mut self, instance: VmInstance) -> Result<(), Refusal> {
        let is_ready = matches!(self.state, VmPhase::Starting { instance: None });
        let next = VmPhase::Starting { instance: Some(instance) };
        self.pass_to(next, is_ready, "cannot be launched")
    }

    /// Records the network helper of a VM that starts or runs, before it serves. Any earlier one is proven gone.
    pub fn networked(&mut self, network: NetworkProcess) -> Result<(), Refusal> {
        match &mut self.state {
            VmPhase::Starting { instance: Some(instance) } | VmPhase::Started { instance } => {
                instance.network = Some(network);
                Ok(())
            }
            _ => Err(self.refuse_state("cannot be connected to a network")),
        }
    }

    /// Forgets a process that is proven gone, so that another can be launched.
    pub fn unlaunched(&mut self) -> Result<(), Refusal> {
        let is_starting = matches!(self.state, VmPhase::Starting { .. });
        self.pass_to(VmPhase::Starting { instance: None }, is_starting, "is not starting")
    }

    /// starting → started.
    pub fn finish_start(&mut self) -> Result<(), Refusal> {
        let VmPhase::Starting { instance: Some(instance) } = &self.state else {
            return Err(self.refuse_state("did not start"));
        };
        self.state = VmPhase::Started { instance: instance.clone() };
        Ok(())
    }

    /// started → stopping; returns the instance to end.
    pub fn begin_stop(&mut self) -> Result<VmInstance, Refusal> {
        let instance = self.state.instance().filter(|_| self.state.is_up()).cloned();
        let instance = instance.ok_or_else(|| self.refuse_state("cannot be stopped"))?;
        self.state = VmPhase::Stopping { instance: instance.clone() };
        Ok(instance)
    }

    /// created, starting, started or stopping → stopped. The VMM must be proven gone.
    pub fn finish_stop(&mut self, last_error: Option<String>) -> Result<(), Refusal> {
        let may_stop = self.state == VmPhase::Created || self.state.is_up();
        self.pass_to(VmPhase::Stopped { last_error }, may_stop, "is not stopping")
    }

    /// Lets the VM live for `ttl_seconds` from now, unless it already had longer to live. Returns by how many
    /// whole seconds its end moved: the end stays `ttl_seconds` of the manifest after the creation, on either
    /// clock.
    pub fn extend(&mut self, now: &ClockReading, ttl_seconds: u64) -> Result<u64, Refusal> {
        self.check_at_rest("cannot be extended")?;
        let missing = (ttl_seconds as f64 - self.expiry.remaining(now)).ceil().max(0.0) as u64;
        self.manifest.ttl_seconds = self.manifest.ttl_seconds.saturating_add(missing);
        self.expiry.extend_by(missing);
        Ok(missing)
    }

    /// Gives the VM a name. The caller checks that no other VM has it.
    pub fn rename(&mut self, name: VmName) -> Result<(), Refusal> {
        self.check_at_rest("cannot be renamed")?;
        self.manifest.name = Some(name);
        Ok(())
    }

    /// started → pooled: its owner, who has filled the pool, leaves it to the next command.
    pub fn offer(&mut self) -> Result<(), Refusal> {
        let VmPhase::Started { instance } = &self.state else {
            return Err(self.refuse_state("cannot wait in the pool"));
        };
        self.state = VmPhase::Pooled { instance: instance.clone() };
        self.manifest.owner = None;
        Ok(())
    }

    /// pooled → starting, as the VM that `wanted` describes, whose life begins now. It keeps its id and the users
    /// that its processes run as.
    pub fn take(&mut self, wanted: &VmManifest, now: &ClockReading) -> Result<(), Refusal> {
        let VmPhase::Pooled { instance } = &self.state else {
            return Err(self.refuse_state("cannot be taken from the pool"));
        };
        self.state = VmPhase::Starting { instance: Some(instance.clone()) };
        self.manifest = VmManifest {
            vm_id: self.manifest.vm_id.clone(),
            vmm_uid: self.manifest.vmm_uid,
            network_uid: self.manifest.network_uid,
            created_at: now.unix,
            in_pool: false,
            ..wanted.clone()
        };
        self.expiry = VmExpiry::after(now, wanted.ttl_seconds);
        Ok(())
    }

    /// Refuses what only makes sense for a VM of a user.
    ///
    /// # Errors
    /// `WrongState` if it waits in the pool.
    pub fn check_not_pooled(&self, what: &str) -> Result<(), Refusal> {
        match self.state {
            VmPhase::Pooled { .. } => Err(self.refuse_state(what)),
            _ => Ok(()),
        }
    }

    /// Whether no operation is under way or was abandoned.
    pub fn is_at_rest(&self) -> bool {
        use VmPhase::{Created, Pooled, Started, Stopped};
        matches!(self.state, Created | Started { .. } | Stopped { .. } | Pooled { .. })
    }

    fn check_at_rest(&self, what: &str) -> Result<(), Refusal> {
        self.check_not_pooled(what)?;
        if self.is_at_rest() { Ok(()) } else { Err(self.refuse_state(what)) }
    }

    /// Any phase → removing, even removing itself.
    pub fn begin_remove(&mut self, reason: &str) {
        self.state = VmPhase::Removing {
            instance: self.state.instance().cloned(),
            reason: match &self.state {
                VmPhase::Removing { reason, .. } => reason.clone(),
                _ => reason.to_owned(),
            },
        };
    }

    fn pass_to(&mut self, next: VmPhase, is_allowed: bool, what: &str) -> Result<(), Refusal> {
        if !is_allowed {
            return Err(self.refuse_state(what));
        }
        self.state = next;
        Ok(())
    }

    fn refuse_state(&self, what: &str) -> Refusal {
        let refusal = self.refuse(&format!("{what}: it is {}", self.state.name()));
        match self.state {
            VmPhase::Pooled { .. } => refusal.hint(IN_POOL),
            _ => refusal,
        }
    }

    fn refuse(&self, what: &str) -> Refusal {
        Refusal::new(RefusalKind::WrongState, format!("VM {} {what}", self.manifest.display_name()))
    }
}

/// What to do about a VM that waits in the pool.
const IN_POOL: &str =
    "it waits for the next 'run' of its kind; 'mayfly pool drain' deletes such VMs";

/// The refusal to do anything with a VM that is elsewhere.
pub fn elsewhere(name: &str, place: &ProcessPlace) -> Refusal {
    let ProcessPlace { host, pid_namespace, .. } = place;
    let host = host.escape_default();
    let message =
        format!("VM {name} runs elsewhere: on host {host}, in pid namespace {pid_namespace}");
    Refusal::new(RefusalKind::Busy, message).hint(
        "use mayfly there; once the VM has been expired for a minute, 'mayfly reap' deletes it from anywhere",
    )
}

/// Why something was deleted, as verbs report it.
pub mod reason {
    pub const EXPLICIT: &str = "explicit_delete";
    pub const POST_EXEC: &str = "post_exec_cleanup";
    pub const EXPIRED: &str = "expired";
    pub const ABANDONED: &str = "abandoned";
    /// No VM was started from the template for long.
    pub const UNUSED: &str = "unused";
    /// The template's image was deleted or replaced.
    pub const IMAGE_GONE: &str = "image_gone";
    pub const NOT_NEEDED: &str = "not_needed";
    /// It was already gone.
    pub const ABSENT: &str = "absent";
}
