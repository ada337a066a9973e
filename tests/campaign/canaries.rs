//! Processes that mayfly must not signal, although their environment resembles that of a VM.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::unistd::geteuid;

use super::procfs;

/// They live until this value is dropped.
#[derive(Debug, Default)]
pub struct Canaries(Vec<Child>);

impl Canaries {
    /// Processes with variables that look like the mark of a VM of this state directory.
    pub fn beside(state: &str) -> Canaries {
        let within = format!("{state}/vms/0123456789ab");
        let beside = format!("{state}/vms-2/0123456789ab");
        let mut started = vec![
            canary(&[]),
            canary(&[("MAYFLY_VM_DIR", "/elsewhere/vms/0123456789ab")]),
            canary(&[("MAYFLY_VM_DIR", &beside)]),
            canary(&[("NOT_MAYFLY_VM_DIR", &within)]),
        ];
        if geteuid().is_root() {
            // A user can give a process the mark of another user's VM.
            let mut command = sleep(&[("MAYFLY_VM_DIR", &within)]);
            started.push(command.uid(procfs::NOBODY).spawn().expect("root may do that"));
        }
        Canaries(started)
    }

    pub fn assert_live(&self) {
        for canary in &self.0 {
            assert!(procfs::is_alive(canary.id() as i32), "an innocent process was signalled");
        }
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        for canary in &mut self.0 {
            let _ = canary.kill();
            let _ = canary.wait();
        }
    }
}

/// Starts a process that mayfly must not signal, with this environment.
pub fn canary(environment: &[(&str, &str)]) -> Child {
    sleep(environment).spawn().expect("sleep is in coreutils")
}

fn sleep(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000000").env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    command
}
