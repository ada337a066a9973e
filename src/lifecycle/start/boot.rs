//! Starting a VMM, watching it, and waiting until its agent answers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::caller::{StartCaller, StartRemark};
use super::identity;
use super::stall::StallWatch;
use crate::backend::{Backend, BackendVm, MemorySource, MonitorStream, StreamPurpose};
use crate::guest::AgentSession;
use crate::host::launcher::{self, ReleasedChild};
use crate::host::process;
use crate::host::signals::{PendingSignals, SignalInterrupt};
use crate::host::wait::WaitLimit;
use crate::host::{atomic_file, directory, log, sparse};
use crate::image::{self, LockedImage};
use crate::lifecycle::full_disk::FullDiskWatch;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::{BoundPorts, attach};
use crate::lifecycle::recover::{processes, teardown};
use crate::model::{
    BootFiles, Isolation, QuotedOutput, Refusal, RefusalKind, VmInstance, VmPaths, VmRecord,
};
use crate::protocol::LATE_TIMER;
use crate::protocol::network::NO_DRIVER;
use crate::registry::write_instance;
use crate::sys::process::PidFd;

/// Lines of the console shown when a boot fails: enough for a kernel panic.
const CONSOLE_LINES: usize = 20;

/// How often a guest that stops while it boots is booted in all.
const MAX_BOOTS: usize = 3;

/// Why a guest did not boot.
struct BootFailure {
    error: anyhow::Error,
    /// Whether the guest stopped because the host did not run it in time.
    has_stopped: bool,
}

impl From<anyhow::Error> for BootFailure {
    fn from(error: anyhow::Error) -> BootFailure {
        BootFailure { error, has_stopped: false }
    }
}

/// A VM that is being started. Its lock is held, and its record says `starting`.
pub struct VmBoot<'a> {
    pub manager: &'a VmManager,
    pub record: &'a VmRecord,
    pub backend: &'a dyn Backend,
    pub files: Option<&'a BootFiles>,
    /// What the connection to its agent is for.
    pub purpose: StreamPurpose,
    /// Its published ports.
    pub ports: &'a BoundPorts,
}

/// A VM whose agent answers.
#[derive(Debug)]
pub struct BootedVm {
    pub vmm: PidFd,
    pub session: AgentSession,
    monitor: MonitorStream,
    /// The VMM and the network helper, if they are children of this process.
    pub children: Vec<ReleasedChild>,
}

impl BootedVm {
    /// A VM that another command has started.
    pub fn of(vmm: PidFd, session: AgentSession) -> BootedVm {
        BootedVm { vmm, session, monitor: None, children: Vec::new() }
    }

    /// Closes the connection to the agent. The VMM keeps running.
    pub fn hang_up(self) -> (PidFd, MonitorStream) {
        self.session.hang_up();
        drop(self.children);
        (self.vmm, self.monitor)
    }
}

impl VmBoot<'_> {
    /// Calls `copy` with what the VM's disk is a copy of: the image's disk, or a new one if the VM has another size.
    pub fn with_disk_seed(
        &self,
        image: &LockedImage,
        copy: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let size = self.record.manifest.disk_mib;
        let Some(mib) = size.filter(|mib| image.disk_mib().is_ok_and(|usual| *mib != usual)) else {
            return copy(&image.disk_seed());
        };
        let work = self.paths().dir.join("seed");
        // A killed command may have left one.
        directory::remove(&work)?;
        directory::create_new(&work)?;
        let seed = work.join(image::DISK);
        let copied = image::make_disk(&work, &seed, mib, &mut image::SilentProgress)
            .and_then(|()| copy(&seed));
        directory::remove(&work)?;
        copied
    }

    /// Makes the VM's disk, as a copy of `seed`.
    pub fn copy_disk(&self, seed: &Path) -> Result<()> {
        let disk = self.paths().disk();
        if self.record.manifest.owner.is_some() {
            // After a reboot, `reap` deletes the VM of a `run`.
            return sparse::clone_file(seed, &disk);
        }
        // A later start boots any disk it finds, also after a power failure.
        sparse::clone_file_synced(seed, &disk)
    }

    /// Starts the VMM with this memory and waits for the agent. Records `template` as the VM's template. A guest that
    /// stops while it boots is booted again.
    ///
    /// # Errors
    /// Any error of the VMM, the agent or the host. The VMM is then killed, and no process is on
    /// record.
    pub fn launch(
        &self,
        memory: MemorySource,
        template: Option<&str>,
        caller: &mut StartCaller<'_>,
    ) -> Result<BootedVm> {
        let mut more = match memory {
            // It would stop again: what is wrong is in the template.
            MemorySource::Frozen(_) => 0,
            MemorySource::Fresh | MemorySource::ToFreeze(_) => MAX_BOOTS - 1,
        };
        loop {
            match self.launch_once(memory, template, caller) {
                Err(failure) if failure.has_stopped && more > 0 => {
                    more -= 1;
                    let message = "the guest stopped because this host is busy, and boots again";
                    (caller.remark)(StartRemark::Progress(message.into()));
                    if let MemorySource::ToFreeze(files) = memory {
                        sparse::clear(&files.memory)?;
                    }
                }
                result => return result.map_err(|failure| failure.error),
            }
        }
    }

    fn launch_once(
        &self,
        memory: MemorySource,
        template: Option<&str>,
        caller: &mut StartCaller<'_>,
    ) -> Result<BootedVm, BootFailure> {
        let (id, paths) = (self.record.id(), self.paths());
        // Sockets and locks of an earlier start have no use any more.
        directory::remove(&paths.run)?;
        directory::create_new_below(&self.manager.settings.directories.run, &paths.run)?;
        atomic_file::remove_if_there(&paths.network_log())?;
        let mut start = self.backend.launch(self.vm_of(&paths, memory))?;
        start.launch.program.bounds.is_stopped_by_owner =
            self.record.manifest.is_stopped_by_owner();

        let gated = launcher::spawn(start.launch, Some(&self.manager.mark(id)?))?;
        let instance = VmInstance {
            template: template.map(str::to_owned),
            ..VmInstance::new(gated.process.clone())
        };
        // Before the release: a VMM that cannot be watched and killed must not start.
        let Some(vmm) = process::open(&instance.process)? else {
            let ended = Refusal::new(RefusalKind::Host, "the launcher ended at once");
            return Err(BootFailure::from(anyhow::Error::from(ended)));
        };
        write_instance(&paths.instance(), &instance)?;
        self.manager.change_starting(id, |record| record.launched(instance.clone()))?;
        let released = gated.release();
        caller.timings.end("launch");

        let disk = FullDiskWatch::begin(self.manager, self.record);
        let is_machine = self.record.manifest.isolation() != Isolation::None;
        let watched = is_machine.then_some(&instance.process);
        let stall = StallWatch::begin(watched, disk.waits.clone())?;
        let ready = match released {
            Ok(child) => self.bring_up(memory, &start.monitor, start.line, &vmm, caller).map(
                |(session, helper)| {
                    (session, std::iter::once(child).chain(helper).collect::<Vec<_>>())
                },
            ),
            Err(error) => Err(Refusal::new(RefusalKind::Host, format!("{error:#}")).into()),
        };
        match ready {
            Ok((session, children)) => {
                Ok(BootedVm { vmm, session, monitor: start.monitor, children })
            }
            Err(error) => {
                let stalled = stall.why_ended();
                let has_stopped = stalled.is_some() || self.has_late_timer();
                let error = self.explain(stalled.map_or(error, anyhow::Error::from));
                self.end(&vmm).with_context(|| format!("while undoing: {error:#}"))?;
                Err(BootFailure { error, has_stopped })
            }
        }
    }

    /// Whether the guest has refused to boot because its timer is late.
    fn has_late_timer(&self) -> bool {
        let console = log::tail(&self.paths().console(), CONSOLE_LINES);
        console.iter().any(|line| line.contains(LATE_TIMER))
    }

    /// Kills a VMM of this start and its helper, and removes both from the record.
    pub fn end(&self, vmm: &PidFd) -> Result<()> {
        processes::kill(vmm)?;
        teardown::end_processes(self.manager.registry.read()?.get(self.record.id())?)?;
        teardown::clear(self.manager, &self.record.manifest)?;
        self.manager.change_starting(self.record.id(), VmRecord::unlaunched)
    }

    pub fn paths(&self) -> VmPaths {
        self.manager.paths(self.record.id())
    }

    /// A wait limited by the boot deadline, a signal and the VMM's end.
    pub fn wait<'w>(&self, vmm: &'w PidFd, signals: &'w mut PendingSignals) -> WaitLimit<'w> {
        let deadline = Instant::now() + self.backend.boot_deadline();
        WaitLimit::until(deadline).watching(vmm.as_fd()).interruptible(signals)
    }

    /// The VM, as its backend sees it.
    pub fn vm_of<'m>(&'m self, paths: &'m VmPaths, memory: MemorySource<'m>) -> BackendVm<'m> {
        BackendVm { memory, ..BackendVm::new(&self.record.manifest, paths, self.files) }
    }

    /// Starts the network helper, waits for the agent and sends it what it must know before it serves.
    fn bring_up(
        &self,
        memory: MemorySource,
        monitor: &MonitorStream,
        line: Option<UnixStream>,
        vmm: &PidFd,
        caller: &mut StartCaller<'_>,
    ) -> Result<(AgentSession, Option<ReleasedChild>)> {
        let StartCaller { signals, timings, .. } = caller;
        let mut wait = self.wait(vmm, signals);
        // While the VMM starts, which takes longer.
        let mut helper = line.map(|line| self.attach_helper(line)).transpose()?;
        let paths = self.paths();
        let vm = self.vm_of(&paths, memory);
        if let MemorySource::Frozen(_) = memory {
            self.backend.thaw(vm, monitor, &mut wait)?;
            timings.end("thaw");
        }
        let mut session =
            self.manager.open_session(self.record, self.backend, self.purpose, &mut wait)?;
        timings.end(if let MemorySource::Frozen(_) = memory { "greet" } else { "boot" });
        session
            // A VM to be frozen is set up only so that its copies have done so before. They get their own
            // settings.
            .setup(
                &identity::of(self.record, !matches!(memory, MemorySource::ToFreeze(_)))?,
                &mut wait,
            )
            .map_err(|error| self.with_image_remedy(error))?;
        timings.end("setup");
        // A guest that has no interface has said so by now, and does not serve the line.
        let needs_helper = !matches!(memory, MemorySource::ToFreeze(_)) && self.has_network();
        if needs_helper && helper.is_none() {
            helper = Some(self.attach_helper(self.backend.dial_network(vm, &mut wait)?)?);
            timings.end("network");
        }
        let Some((process, child)) = helper else { return Ok((session, None)) };
        if process.wait(Duration::ZERO)? {
            return Err(Refusal::new(RefusalKind::Host, "the network helper ended at once").into());
        }
        Ok((session, Some(child)))
    }

    fn has_network(&self) -> bool {
        !self.record.manifest.network.is_none()
    }

    fn attach_helper(&self, line: UnixStream) -> Result<(PidFd, ReleasedChild)> {
        attach(self.manager, self.record, self.backend, line, self.ports)
    }

    /// Tells how the image gets a driver for a network, if the agent found none.
    fn with_image_remedy(&self, error: anyhow::Error) -> anyhow::Error {
        let image = self.files.and_then(|files| files.rootfs.parent());
        match (Refusal::find(&error), image) {
            (Some(refusal), Some(image)) if refusal.message.contains(NO_DRIVER) => {
                refusal.clone().hint(image::remedy(image)).into()
            }
            _ => error,
        }
    }

    /// Adds the last output of the guest and of the VMM to the error of a failed boot.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        // A user who interrupted the boot knows why it did not finish.
        if error.is::<SignalInterrupt>() {
            return error;
        }
        let paths = self.paths();
        let logs = [
            ("the VMM", paths.vmm_log()),
            ("the network helper", paths.network_log()),
            ("the console", paths.console()),
        ];
        let quoted = logs.map(|(of, path)| QuotedOutput {
            of: of.into(),
            lines: log::tail(&path, CONSOLE_LINES),
        });
        let refusal = Refusal::find(&error);
        let kind = refusal.map_or(RefusalKind::Host, |refusal| refusal.kind);
        let hint = refusal.and_then(|refusal| refusal.hint.clone());
        let remedy = || self.backend.remedy(&quoted[0].lines).map(str::to_owned);
        let mut hint = hint
            .or_else(remedy)
            .unwrap_or_else(|| "'mayfly doctor' checks what this host can do".into());
        // A VM that belongs to a command is deleted now, and its log with it.
        if self.record.manifest.owner.is_none() {
            let vm = self.record.manifest.display_name();
            hint.push_str(&format!("; 'mayfly logs {vm}' shows the whole log"));
        }
        Refusal {
            // A guest that does not start is a failure of the host.
            kind: if kind == RefusalKind::Agent { RefusalKind::Host } else { kind },
            message: format!("VM {} did not start: {error:#}", self.record.manifest.display_name()),
            hint: Some(hint),
            quoted: quoted.into_iter().filter(|quoted| !quoted.lines.is_empty()).collect(),
        }
        .into()
    }
}
