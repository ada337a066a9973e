//! Talking to QEMU itself, in its machine protocol (QMP), over a socket that only its starter holds.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::sys::poll::PollFlags;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use qapi::qmp::{
    self, MigrationCapability, MigrationCapabilityStatus, MigrationStatus, QapiCapabilities,
    RunState,
};
use qapi::{Command, ExecuteError, Qmp, Stream};

use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};

/// More than QEMU ever says at a time.
const MOST: u64 = 1 << 20;

/// Between two questions whether the state is saved or loaded, which takes some milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// The name under which QEMU keeps the file it is given.
const FILE: &str = "state";

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion(pub i64, pub i64, pub i64);

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A conversation with one QEMU.
pub struct QmpClient<'a, 'w> {
    qmp: Qmp<Stream<BufReader<io::Take<Ear<'a, 'w>>>, Mouth<'a>>>,
    version: QemuVersion,
}

impl<'a, 'w> QmpClient<'a, 'w> {
    /// Waits for QEMU's greeting. It comes when its machine is made.
    ///
    /// # Errors
    /// Those of [`WaitLimit::ready`]; a QEMU that ends.
    pub fn open(monitor: Option<&'a UnixStream>, wait: &'a mut WaitLimit<'w>) -> Result<Self> {
        let socket = monitor.context("there is no line to QEMU")?;
        socket.set_nonblocking(true)?;
        let ear = Ear { socket, wait, trouble: None };
        let mouth = Mouth { socket, said: Vec::new(), with: None };
        let qmp = Qmp::new(Stream::new(BufReader::new(ear.take(MOST)), mouth));
        let mut conversation = QmpClient { qmp, version: QemuVersion(0, 0, 0) };
        let mut line = Vec::new();
        let read = conversation.qmp.inner_mut().read_until(b'\n', &mut line);
        if let Err(error) = read {
            return Err(conversation.trouble("greet us", error.into()));
        }
        // Not the crate's own handshake: where QEMU has ended, it panics.
        let greeting: QapiCapabilities = serde_json::from_slice(&line)
            .map_err(|_| Refusal::new(RefusalKind::Host, "QEMU ended before it was ready"))?;
        let version = greeting.QMP.version.qemu;
        conversation.version = QemuVersion(version.major, version.minor, version.micro);
        conversation.ask(&qmp::qmp_capabilities { enable: None })?;
        // The guest's memory is in a file of its own on either side.
        let capabilities = vec![MigrationCapabilityStatus {
            capability: MigrationCapability::x_ignore_shared,
            state: true,
        }];
        conversation.ask(&qmp::migrate_set_capabilities { capabilities })?;
        Ok(conversation)
    }

    /// What it said it is.
    pub fn version(&self) -> QemuVersion {
        self.version
    }

    /// Stops the guest and writes the state of its CPUs and devices.
    ///
    /// # Errors
    /// What QEMU says, and those of [`QmpClient::open`].
    pub fn save(&mut self, state: impl Into<OwnedFd>) -> Result<()> {
        self.ask(&qmp::stop {})?;
        self.hand_over(state.into())?;
        self.ask(&qmp::migrate {
            uri: Some(format!("fd:{FILE}")),
            channels: None,
            detach: None,
            resume: None,
        })?;
        loop {
            let info = self.ask(&qmp::query_migrate {})?;
            match info.status {
                Some(MigrationStatus::completed) => return Ok(()),
                Some(MigrationStatus::failed | MigrationStatus::cancelled) => {
                    bail!("QEMU cannot save the VM: {}", info.error_desc.unwrap_or_default())
                }
                _ => self.pause("QEMU to save the VM")?,
            }
        }
    }

    /// Reads the state of CPUs and devices, and lets the guest run. Returns when it does: a client that
    /// comes to one of the guest's ports before is heard of by nobody.
    ///
    /// # Errors
    /// As for [`QmpClient::save`]; a state that QEMU does not like ends it.
    pub fn load(&mut self, state: impl Into<OwnedFd>) -> Result<()> {
        self.hand_over(state.into())?;
        self.ask(&qmp::migrate_incoming {
            uri: Some(format!("fd:{FILE}")),
            channels: None,
            exit_on_error: None,
        })?;
        // The state is that of a stopped VM. While it is being loaded, `cont` is accepted and forgotten.
        while self.ask(&qmp::query_status {})?.status == RunState::inmigrate {
            self.pause("QEMU to load the VM")?;
        }
        self.ask(&qmp::cont {}).map(drop)
    }

    /// Gives QEMU an open file, beside the words that name it.
    fn hand_over(&mut self, file: OwnedFd) -> Result<()> {
        self.qmp.inner_mut().get_mut_write().with = Some(file);
        self.ask(&qmp::getfd { fdname: FILE.into() }).map(drop)
    }

    fn ask<C: Command>(&mut self, command: &C) -> Result<C::Ok> {
        self.qmp.inner_mut().get_mut_read().get_mut().set_limit(MOST);
        self.qmp.execute(command).map_err(|error| self.trouble(C::NAME, error))
    }

    fn pause(&mut self, what: &str) -> Result<()> {
        self.ear().wait.pause(PAUSE, what)
    }

    fn ear(&mut self) -> &mut Ear<'a, 'w> {
        self.qmp.inner_mut().get_mut_read().get_mut().get_mut()
    }

    /// Why something was not done: what ended the waiting, if anything did.
    fn trouble(&mut self, what: &str, error: ExecuteError) -> anyhow::Error {
        match self.ear().trouble.take() {
            Some(trouble) => trouble,
            None => anyhow!("QEMU did not {what}: {error}"),
        }
    }
}

/// Listens no longer than somebody wants to wait.
struct Ear<'a, 'w> {
    socket: &'a UnixStream,
    wait: &'a mut WaitLimit<'w>,
    /// What ended the waiting: the crate's errors have no room for it.
    trouble: Option<anyhow::Error>,
}

impl Read for Ear<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let ready = self.wait.ready(self.socket.as_fd(), PollFlags::POLLIN, None, "QEMU");
            if let Err(trouble) = ready {
                self.trouble = Some(trouble);
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Says a command at once, with a file if there is one to hand over.
struct Mouth<'a> {
    socket: &'a UnixStream,
    said: Vec<u8>,
    with: Option<OwnedFd>,
}

impl Write for Mouth<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.said.extend(bytes);
        Ok(bytes.len())
    }

    /// Commands are short, and QEMU has heard the last one: the socket has room for all of it.
    fn flush(&mut self) -> io::Result<()> {
        let file = self.with.take();
        let numbers: Vec<_> = file.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let with = if numbers.is_empty() { &[][..] } else { &rights };
        let said = std::mem::take(&mut self.said);
        let words = [IoSlice::new(&said)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &words, with, flags, None)?;
        if sent < said.len() { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::spawn;

    use super::*;

    const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}"#;

    /// What comes of loading a state where QEMU says these lines, one for each it hears but the first.
    fn load_from(lines: &[&str]) -> Result<()> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let qemu = spawn(move || {
            let mut heard = BufReader::new(&theirs);
            for (number, line) in lines.iter().enumerate() {
                if number > 0 {
                    heard.read_line(&mut String::new()).unwrap();
                }
                writeln!(&theirs, "{line}").unwrap();
            }
        });
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        let state = std::fs::File::open("/dev/null").unwrap();
        let loaded = QmpClient::open(Some(&ours), &mut wait).and_then(|mut qemu| qemu.load(state));
        qemu.join().unwrap();
        loaded
    }

    const DONE: &str = r#"{"return":{}}"#;

    #[test]
    fn each_command_waits_for_its_answer() {
        let (still, paused) = (
            r#"{"return":{"running":false,"status":"inmigrate"}}"#,
            r#"{"return":{"running":false,"status":"paused"}}"#,
        );
        load_from(&[GREETING, DONE, DONE, DONE, DONE, still, still, paused, DONE]).unwrap();
        let event = r#"{"event":"RESUME","timestamp":{"seconds":1,"microseconds":2}}
{"return":{}}"#;
        load_from(&[GREETING, DONE, DONE, DONE, DONE, paused, event]).unwrap();
    }

    #[test]
    fn a_qemu_that_ends_or_refuses_is_an_error_and_no_panic() {
        for lines in [&[][..], &[GREETING], &[GREETING, DONE], &["nonsense"], &[GREETING, "{}"]] {
            load_from(lines).unwrap_err();
        }
        let refusal = r#"{"error":{"class":"GenericError","desc":"no such thing"}}"#;
        let error = load_from(&[GREETING, DONE, refusal]).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
    }

    #[test]
    fn silence_ends_with_the_callers_patience() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut wait = WaitLimit::within(Duration::from_millis(20));
        let error = QmpClient::open(Some(&ours), &mut wait).err().unwrap();
        assert!(Refusal::find(&error).is_some(), "{error}");
    }
}
