//! A VM that is used through the agent protocol alone.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use mayfly::guest::{AgentSession, CommandExit, ExecIo, OutputSink};
use mayfly::host::agent_channel::AgentChannel;
use mayfly::host::signals::PendingSignals;
use mayfly::host::socket;
use mayfly::host::wait::WaitLimit;
use mayfly::model::VmPaths;
use mayfly::protocol::{ExecProgram, ExecRequest, WireText};

use super::network::NetworkProcess;
use super::vmm::Vmm;
use super::{LIMIT, RAW_PORT};

/// A running VM; its VMM is killed when dropped.
#[derive(Debug)]
pub struct BareVm {
    pub(super) _vmm: Vmm,
    pub(super) _network: Option<NetworkProcess>,
    pub(super) paths: VmPaths,
    /// Milliseconds from its start to the agent's answer.
    pub ready_ms: f64,
    pub(super) session: AgentSession,
}

impl BareVm {
    /// Runs a command that must succeed, and returns its output.
    pub fn exec(&mut self, argv: &[&str], signals: &mut PendingSignals) -> Result<String> {
        exec(&mut self.session, argv, signals)
    }

    /// A connection to the raw port.
    pub fn raw_stream(&self) -> Result<UnixStream> {
        connect(&self.paths.run.join(RAW_PORT))
    }

    /// The raw port's device in the guest, which has no udev to name it.
    pub fn raw_device(&mut self, signals: &mut PendingSignals) -> Result<String> {
        let script = format!("grep -lx {RAW_PORT} /sys/class/virtio-ports/*/name");
        let found = self.exec(&["sh", "-c", &script], signals)?;
        let name = found.trim().rsplit('/').nth(1).context("the guest has no raw port")?;
        Ok(format!("/dev/{name}"))
    }
}

/// A connection to a port of a VM that is starting.
pub(super) fn connect(path: &Path) -> Result<UnixStream> {
    socket::connect(path)?.context("the VMM accepts no connections")
}

/// Opens a session with the agent at a port.
pub fn open(paths: &VmPaths, port: u32) -> Result<AgentSession> {
    let stream = connect(&paths.port(port))?;
    AgentSession::open(AgentChannel { stream, claim: None }, false, &mut WaitLimit::within(LIMIT))
}

/// Runs a command that must succeed, and returns its output.
pub fn exec(
    session: &mut AgentSession,
    argv: &[&str],
    signals: &mut PendingSignals,
) -> Result<String> {
    let program = ExecProgram::Argv(argv.iter().map(|&word| WireText::from(word)).collect());
    let request = ExecRequest::of(program);
    let keep = || OutputSink::Capture { limit: 4096 };
    let io = ExecIo { stdin: None, stdout: keep(), stderr: keep(), signals };
    let outcome = session.exec(&request, io)?;
    if outcome.exit != CommandExit::Exited(0) {
        bail!("{argv:?}: {:?} {}", outcome.exit, String::from_utf8_lossy(&outcome.stderr.bytes));
    }
    Ok(String::from_utf8_lossy(&outcome.stdout.bytes).into_owned())
}
