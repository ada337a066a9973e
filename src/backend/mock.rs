//! The mock backend: the real agent as a plain host process. It exercises everything but the VM, and
//! isolates nothing.

use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::claim::DialedStream;
use super::{Backend, BackendVm, MonitorStream, StreamPurpose, VmmStart, port};
use crate::host::gate::{LaunchBounds, LaunchProgram, LaunchSpec};
use crate::host::log;
use crate::host::wait::WaitLimit;
use crate::model::{Accelerator, BackendKind, VmManifest};

/// Where programs are when nobody says, as for a command that cron or a service starts.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

    fn launch(&self, machine: BackendVm) -> Result<VmmStart> {
        let work = machine.paths.work();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&work);
        made.with_context(|| format!("cannot create {}", work.display()))?;
        let files = port::listen(machine.paths)?;
        let mut args = Vec::new();
        for file in &files {
            args.extend(["--listen-fd".to_owned(), file.as_raw_fd().to_string()]);
        }
        if let Some(secrets) = machine.paths.secrets().to_str() {
            args.extend(["--secrets".to_owned(), secrets.to_owned()]);
        }
        let path = std::env::var("PATH").unwrap_or_else(|_| USUAL_PATH.into());
        let home = work.to_str().context("the state directory's name is not UTF-8")?.to_owned();
        let program = LaunchProgram {
            path: self.agent.clone(),
            args,
            env: vec![("PATH".into(), path), ("HOME".into(), home)],
            cwd: work,
            user: None,
            files: Vec::new(),
            bounds: LaunchBounds::default(),
        };
        let log = log::open(&machine.paths.vmm_log(), None)?;
        Ok(VmmStart { launch: LaunchSpec { program, files, output: None, log }, monitor: None })
    }

    fn shape(&self, _: &VmManifest) -> Result<Option<String>> {
        Ok(None)
    }

    fn freeze(&self, _: BackendVm, _: &MonitorStream, _: &mut WaitLimit<'_>) -> Result<String> {
        bail!("a process of the host cannot be frozen")
    }

    fn thaw(&self, _: BackendVm, _: &MonitorStream, _: &mut WaitLimit<'_>) -> Result<()> {
        bail!("a process of the host cannot be frozen")
    }

    fn dial(
        &self,
        machine: BackendVm,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<DialedStream> {
        port::dial(machine.paths, purpose, wait)
    }

    fn boot_deadline(&self) -> Duration {
        Duration::from_secs(20)
    }
}
