//! The mock backend: the real agent as a plain host process. It exercises everything but the VM, and
//! offers no isolation.

use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::interface::{Backend, BackendVm, DialedStream, StreamPurpose, VmTraces, VmmStart};
use super::port;
use crate::host::launcher::{LaunchProgram, LaunchSpec};
use crate::host::wait::WaitLimit;
use crate::host::{directory, log, which};
use crate::model::{Accelerator, BackendKind, VmId, VmPaths};

/// Runs `mayfly-agent` on the host.
#[derive(Debug, Clone)]
pub struct MockBackend {
    pub agent: PathBuf,
}

impl Backend for MockBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Mock
    }

    fn accelerator(&self) -> Accelerator {
        Accelerator::None
    }

    fn boots_image(&self) -> bool {
        false
    }

    fn launch(&self, vm: BackendVm) -> Result<VmmStart> {
        let work = vm.paths.work();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&work);
        made.with_context(|| format!("cannot create {}", work.display()))?;
        let files = port::listen(vm.paths)?;
        let mut args = Vec::new();
        for file in &files {
            args.extend(["--listen-fd".to_owned(), file.as_raw_fd().to_string()]);
        }
        if let Some(secrets) = vm.paths.secrets().to_str() {
            args.extend(["--secrets".to_owned(), secrets.to_owned()]);
        }
        let path = which::path().to_string_lossy().into_owned();
        let home = work.to_str().context("the state directory's name is not UTF-8")?.to_owned();
        let program = LaunchProgram {
            path: self.agent.clone(),
            args,
            env: vec![("PATH".into(), path), ("HOME".into(), home)],
            cwd: work,
            ..LaunchProgram::default()
        };
        let log = log::open(&vm.paths.vmm_log(), None)?;
        let launch = LaunchSpec { program, files, output: None, log };
        Ok(VmmStart { launch, monitor: None, line: None })
    }

    fn dial(
        &self,
        vm: BackendVm,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<DialedStream> {
        port::dial(vm.paths, purpose, wait)
    }

    fn boot_deadline(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// What a mock VM leaves: its commands are processes of the host.
#[derive(Debug)]
pub struct MockTraces;

impl VmTraces for MockTraces {
    /// The agent is the VMM.
    fn console(&self, paths: &VmPaths) -> PathBuf {
        paths.vmm_log()
    }

    fn has_host_processes(&self) -> bool {
        true
    }

    /// The agent deletes the secrets itself, unless it was killed.
    fn clear(&self, _: &VmId, paths: &VmPaths) -> Result<()> {
        directory::remove(&paths.secrets())
    }
}
