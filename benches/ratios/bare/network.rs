//! Networks of bare VMs, in which a guest has the address of mayfly's guests, and the gateway is the host's loopback.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use command_fds::CommandFdExt;
use mayfly::backend::VmmStart;
use mayfly::host::which;

/// QEMU's arguments for slirp.
const USER_NETWORK: &str =
    "user,id=network,net=192.0.0.0/29,host=192.0.0.1,dns=192.0.0.3,dhcpstart=192.0.0.2";

/// passt's arguments, before the number of its line.
const PASST: [&str; 9] = [
    "--foreground",
    "--quiet",
    "--address",
    "192.0.0.2",
    "--netmask",
    "29",
    "--gateway",
    "192.0.0.1",
    "--fd",
];

/// What connects a bare VM to the host.
pub enum BareNetwork {
    /// slirp, which is a part of QEMU.
    User,
    /// passt, a process that takes the place of mayfly's helper.
    Passt(PathBuf),
}

/// A process that connects a VM, which is killed when dropped.
#[derive(Debug)]
pub struct NetworkProcess(Child);

impl BareNetwork {
    /// passt, if it is installed.
    pub fn passt() -> Result<BareNetwork> {
        let program = which::find(Path::new("passt")).context("passt is not installed")?;
        Ok(BareNetwork::Passt(program))
    }

    pub fn name(&self) -> &'static str {
        match self {
            BareNetwork::User => "QEMU's user-mode network",
            BareNetwork::Passt(_) => "passt",
        }
    }

    /// Puts this network in the place of mayfly's.
    #[expect(clippy::disallowed_methods, reason = "what is measured is a process")]
    pub fn attach(&self, start: &mut VmmStart) -> Result<Option<NetworkProcess>> {
        match self {
            BareNetwork::User => {
                let args = &mut start.launch.program.args;
                let line = args.iter_mut().find(|it| it.starts_with("stream,id=network,"));
                *line.context("the VM has no line to replace")? = USER_NETWORK.into();
                Ok(None)
            }
            BareNetwork::Passt(program) => {
                let line = start.line.take().context("the VM has no line")?;
                let mut command = Command::new(program);
                command.args(PASST).arg(line.as_raw_fd().to_string());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.preserved_fds(vec![line.into()]);
                Ok(Some(NetworkProcess(command.spawn().context("cannot start passt")?)))
            }
        }
    }
}

impl Drop for NetworkProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
