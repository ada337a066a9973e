//! The process of a bare VM.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use command_fds::CommandFdExt;
use mayfly::host::cgroup;
use mayfly::host::launcher::{self, LaunchSpec, ReleasedChild};
use mayfly::host::process;
use mayfly::host::process_marks::ProcessMark;
use mayfly::model::VmId;
use mayfly::sys::process::{PidFd, Signal};

/// How long to wait for a killed VMM to end.
const DEATH: Duration = Duration::from_secs(30);

/// A VMM's process, which is killed when dropped.
#[derive(Debug)]
pub enum Vmm {
    WithoutJail(Child),
    /// In a jail made by mayfly's launcher.
    InJail {
        process: PidFd,
        /// Reaps the process when dropped.
        _released: ReleasedChild,
        id: VmId,
    },
}

impl Vmm {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bare VMM is started without mayfly's launcher"
    )]
    pub fn without_jail(launch: LaunchSpec) -> Result<Vmm> {
        let child = Command::new(&launch.program.path)
            .args(&launch.program.args)
            .env_clear()
            .current_dir(&launch.program.cwd)
            .stdin(Stdio::null())
            .stdout(launch.output.map_or_else(Stdio::null, Stdio::from))
            .stderr(launch.log)
            .preserved_fds(launch.files)
            .spawn()
            .context("cannot start the VMM")?;
        Ok(Vmm::WithoutJail(child))
    }

    pub fn in_jail(launch: LaunchSpec, id: &VmId) -> Result<Vmm> {
        let gated = launcher::spawn(launch, Some(&ProcessMark::new("bench", &[0; 32])))?;
        let process = process::open(&gated.process)?.context("the launcher ended early")?;
        Ok(Vmm::InJail { process, _released: gated.release()?, id: id.clone() })
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        match self {
            Vmm::WithoutJail(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Vmm::InJail { process, id, .. } => {
                let _ = process.signal(Signal::SIGKILL);
                let _ = process.wait(DEATH);
                let _ = cgroup::remove(id.as_str());
            }
        }
    }
}
