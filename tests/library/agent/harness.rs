//! An agent for one test, and short ways to ask it for something.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mayfly::guest::{AgentSession, CommandOutcome, ExecIo, OutputSink, StdinSource};
use mayfly::host::agent_channel::AgentChannel;
use mayfly::host::signals::PendingSignals;
use mayfly::host::wait::WaitLimit;
use mayfly::protocol::{ExecProgram, ExecRequest, WireText};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use crate::support::processes::{PATIENCE, eventually, lives};

pub struct Agent {
    pub child: Child,
    pub dir: TempDir,
}

impl Agent {
    /// An agent that serves connections.
    pub fn start() -> Agent {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("agent")).unwrap();
        Agent { child: spawn("--listen-fd", &listener.into(), &dir), dir }
    }

    /// An agent that serves one stream in the way of a virtio-serial port, and the stream's other
    /// end.
    pub fn on_port() -> (Agent, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Agent::on_stream(theirs), ours)
    }

    /// The same on a stream that is there already.
    pub fn on_stream(stream: UnixStream) -> Agent {
        let dir = TempDir::new().unwrap();
        Agent { child: spawn("--port-fd", &stream.into(), &dir), dir }
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("agent")).unwrap()
    }

    pub fn session(&self) -> AgentSession {
        open(self.connect(), false)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Runs a shell command and captures what it writes.
    pub fn sh(&self, line: &str) -> CommandOutcome {
        run(&mut self.session(), &sh(line))
    }

    /// Waits for the agent's own end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            kill(self.pid(), Signal::SIGTERM).unwrap();
            let status = self.wait();
            if !std::thread::panicking() {
                assert_eq!(status.code(), Some(0), "the agent ends well");
            }
        }
    }
}

fn spawn(option: &str, fd: &OwnedFd, dir: &TempDir) -> Child {
    let number = fd.as_raw_fd();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mayfly-agent"));
    command
        .args([option, &number.to_string(), "--root", "."])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir.path())
        .env("MAYFLY_VM", "0123456789ab")
        .stdin(Stdio::null());
    // SAFETY: fcntl is async-signal-safe. Only in the child, so that no other test's agent inherits
    // it.
    unsafe {
        command.pre_exec(move || match libc::fcntl(number, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().unwrap()
}

pub fn channel(stream: UnixStream) -> AgentChannel {
    AgentChannel { stream, claim: None }
}

pub fn open(stream: UnixStream, dirty: bool) -> AgentSession {
    AgentSession::open(channel(stream), dirty, &mut WaitLimit::within(PATIENCE)).unwrap()
}

pub fn argv(words: &[&str]) -> ExecRequest {
    ExecRequest::of(ExecProgram::Argv(words.iter().map(|&word| WireText::from(word)).collect()))
}

pub fn sh(line: &str) -> ExecRequest {
    argv(&["sh", "-c", line])
}

/// Runs a command and captures up to 1 MiB of each output.
pub fn run(session: &mut AgentSession, request: &ExecRequest) -> CommandOutcome {
    try_run(session, request, None).unwrap()
}

pub fn try_run(
    session: &mut AgentSession,
    request: &ExecRequest,
    stdin: Option<OwnedFd>,
) -> anyhow::Result<CommandOutcome> {
    let mut signals = PendingSignals::block().unwrap();
    let capture = || OutputSink::Capture { limit: 1 << 20 };
    session.exec(
        request,
        ExecIo {
            stdin: stdin.map(StdinSource::Bytes),
            stdout: capture(),
            stderr: capture(),
            signals: &mut signals,
        },
    )
}

pub fn stdout(outcome: &CommandOutcome) -> &str {
    str::from_utf8(&outcome.stdout.bytes).unwrap()
}

/// A pipe's reading end that yields these bytes and then ends.
pub fn input(bytes: Vec<u8>) -> OwnedFd {
    let (read, write) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        let mut write = File::from(OwnedFd::from(write));
        let _ = write.write_all(&bytes);
    });
    read.into()
}
