//! A VM with nothing of mayfly around it but the protocol.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use mayfly::guest::{ExecIo, Exit, Session, Sink};
use mayfly::host::channel::Channel;
use mayfly::host::signals::Signals;
use mayfly::host::socket;
use mayfly::host::wait::Wait;
use mayfly::model::VmPaths;
use mayfly::protocol::{Exec, Program, Text};

use super::vmm::Vmm;
use super::{LIMIT, RAW_PORT};

/// A VMM that ends with this value.
#[derive(Debug)]
pub struct BareVm {
    pub(super) _vmm: Vmm,
    pub(super) paths: VmPaths,
    /// Milliseconds from its start to the agent's answer.
    pub ready_ms: f64,
    pub(super) session: Session,
}

impl BareVm {
    /// Runs a command, without anything of mayfly but the protocol.
    pub fn exec(&mut self, argv: &[&str], signals: &mut Signals) -> Result<String> {
        exec(&mut self.session, argv, signals)
    }

    /// A connection to the raw port.
    pub fn raw_stream(&self) -> Result<UnixStream> {
        connect(&self.paths.run.join(RAW_PORT))
    }

    /// The raw port's device in the guest, which has no udev to name it.
    pub fn raw_device(&mut self, signals: &mut Signals) -> Result<String> {
        let script = format!("grep -lx {RAW_PORT} /sys/class/virtio-ports/*/name");
        let found = self.exec(&["sh", "-c", &script], signals)?;
        let name = found.trim().rsplit('/').nth(1).context("the guest has no raw port")?;
        Ok(format!("/dev/{name}"))
    }
}

fn connect(path: &Path) -> Result<UnixStream> {
    socket::connect(path)?.context("the VMM accepts no connections")
}

/// Greets the agent at a port.
pub fn open(paths: &VmPaths, port: u32) -> Result<Session> {
    let stream = connect(&paths.port(port))?;
    Session::open(Channel { stream, claim: None }, false, &mut Wait::within(LIMIT))
}

/// Runs a command that must succeed; its output.
pub fn exec(session: &mut Session, argv: &[&str], signals: &mut Signals) -> Result<String> {
    let program = Program::Argv(argv.iter().map(|&word| Text::from(word)).collect());
    let request = Exec::of(program);
    let keep = || Sink::Capture { limit: 4096 };
    let io = ExecIo { stdin: None, stdout: keep(), stderr: keep(), signals };
    let outcome = session.exec(&request, io)?;
    if outcome.exit != Exit::Exited(0) {
        bail!("{argv:?}: {:?} {}", outcome.exit, String::from_utf8_lossy(&outcome.stderr.bytes));
    }
    Ok(String::from_utf8_lossy(&outcome.stdout.bytes).into_owned())
}
