//! A client of QEMU's machine protocol (QMP): over a connection that only the process which starts QEMU holds, or a
//! socket in the VM's private directory.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use qapi::qmp::{
    self, MigrationCapability, MigrationCapabilityStatus, MigrationStatus, QapiCapabilities,
    RunState,
};
use qapi::{Command, ExecuteError, Qmp, Stream};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};
use crate::sys::poll::PollFlags;

/// The longest message, in bytes; QEMU's are much shorter.
const MAX_MESSAGE: u64 = 1 << 20;

/// The interval for checking whether the state is saved or loaded, which takes some milliseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How long a write that is tried again may take to fail again.
const RETRY_LIMIT: Duration = Duration::from_millis(200);

/// The interval for checking whether it has failed again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The name that QEMU uses for the file it is given.
const FILE: &str = "state";

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion(pub i64, pub i64, pub i64);

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A connection to one QEMU.
pub struct QmpClient<'a, 'w> {
    qmp: Qmp<Stream<BufReader<io::Take<QmpReader<'a, 'w>>>, QmpWriter<'a>>>,
    version: QemuVersion,
}

impl<'a, 'w> QmpClient<'a, 'w> {
    /// Waits for QEMU's greeting, which it sends when its machine is set up.
    ///
    /// # Errors
    /// The errors of [`WaitLimit::ready`]; QEMU ends.
    pub fn open(monitor: Option<&'a UnixStream>, wait: &'a mut WaitLimit<'w>) -> Result<Self> {
        let socket = monitor.context("there is no connection to QEMU")?;
        socket.set_nonblocking(true)?;
        let reader = QmpReader { socket, wait, failure: None };
        let writer = QmpWriter { socket, bytes: Vec::new(), file: None };
        let qmp = Qmp::new(Stream::new(BufReader::new(reader.take(MAX_MESSAGE)), writer));
        let mut client = QmpClient { qmp, version: QemuVersion(0, 0, 0) };
        let mut line = Vec::new();
        let read = client.qmp.inner_mut().read_until(b'\n', &mut line);
        if let Err(error) = read {
            return Err(client.error("send its greeting", error.into()));
        }
        // The crate's own handshake panics if QEMU has ended.
        let greeting: QapiCapabilities = serde_json::from_slice(&line)
            .map_err(|_| Refusal::new(RefusalKind::Host, "QEMU ended before it was ready"))?;
        let version = greeting.QMP.version.qemu;
        client.version = QemuVersion(version.major, version.minor, version.micro);
        client.ask(&qmp::qmp_capabilities { enable: None })?;
        Ok(client)
    }

    /// Leaves the guest's memory, which is in a file of its own, out of what is saved and loaded.
    ///
    /// # Errors
    /// As for [`QmpClient::save`].
    pub fn keep_memory_apart(&mut self) -> Result<()> {
        let capabilities = vec![MigrationCapabilityStatus {
            capability: MigrationCapability::x_ignore_shared,
            state: true,
        }];
        self.ask(&qmp::migrate_set_capabilities { capabilities }).map(drop)
    }

    /// Lets a guest go on that QEMU paused because the host's disk was full: QEMU tries the failed write again.
    /// Returns whether the guest still waits.
    ///
    /// # Errors
    /// As for [`QmpClient::save`].
    pub fn go_on(&mut self) -> Result<bool> {
        if !self.is_paused_by_disk()? {
            return Ok(false);
        }
        self.ask(&qmp::cont {})?;
        let until = Instant::now() + RETRY_LIMIT;
        while Instant::now() < until {
            self.pause(RETRY_INTERVAL, "QEMU to write")?;
            if self.is_paused_by_disk()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether QEMU paused the guest because the host's disk was full.
    ///
    /// # Errors
    /// As for [`QmpClient::save`].
    pub fn is_paused_by_disk(&mut self) -> Result<bool> {
        Ok(self.ask(&qmp::query_status {})?.status == RunState::io_error)
    }

    /// The version from the greeting.
    pub fn version(&self) -> QemuVersion {
        self.version
    }

    /// Stops the guest and writes the state of its CPUs and devices.
    ///
    /// # Errors
    /// QEMU's error, and the errors of [`QmpClient::open`].
    pub fn save(&mut self, state: impl Into<OwnedFd>) -> Result<()> {
        self.ask(&qmp::stop {})?;
        self.send_file(state.into())?;
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
                _ => self.pause(POLL_INTERVAL, "QEMU to save the VM")?,
            }
        }
    }

    /// Loads the state of CPUs and devices and resumes the guest. Returns when the guest runs, because
    /// it does not notice a client that connects to one of its ports before.
    ///
    /// # Errors
    /// The errors of [`QmpClient::save`]. QEMU ends if it rejects the state.
    pub fn load(&mut self, state: impl Into<OwnedFd>) -> Result<()> {
        self.send_file(state.into())?;
        self.ask(&qmp::migrate_incoming {
            uri: Some(format!("fd:{FILE}")),
            channels: None,
            exit_on_error: None,
        })?;
        // The loaded state is that of a stopped VM. While it is being loaded, QEMU accepts `cont` but
        // ignores it.
        while self.ask(&qmp::query_status {})?.status == RunState::inmigrate {
            self.pause(POLL_INTERVAL, "QEMU to load the VM")?;
        }
        self.ask(&qmp::cont {}).map(drop)
    }

    /// Sends QEMU an open file along with the command that names it.
    fn send_file(&mut self, file: OwnedFd) -> Result<()> {
        self.qmp.inner_mut().get_mut_write().file = Some(file);
        self.ask(&qmp::getfd { fdname: FILE.into() }).map(drop)
    }

    fn ask<C: Command>(&mut self, command: &C) -> Result<C::Ok> {
        self.qmp.inner_mut().get_mut_read().get_mut().set_limit(MAX_MESSAGE);
        self.qmp.execute(command).map_err(|error| self.error(C::NAME, error))
    }

    /// Waits until QEMU listens on a VM's network socket, for which it has a thread that a busy host may delay.
    ///
    /// Until then, QEMU 7.2 sends what comes from the guest to a connection that does not exist, and crashes. QEMU makes
    /// the socket non-blocking when it begins to listen, and that flag is the same for all copies of the socket.
    ///
    /// # Errors
    /// The errors of [`WaitLimit::pause`].
    pub fn wait_until_it_listens(&mut self, socket: impl AsFd) -> Result<()> {
        while !fcntl_getfl(&socket)?.contains(OFlags::NONBLOCK) {
            self.pause(POLL_INTERVAL, "QEMU to listen for its network helper")?;
        }
        Ok(())
    }

    fn pause(&mut self, length: Duration, what: &str) -> Result<()> {
        self.reader().wait.pause(length, what)
    }

    fn reader(&mut self) -> &mut QmpReader<'a, 'w> {
        self.qmp.inner_mut().get_mut_read().get_mut().get_mut()
    }

    /// The error of a command: what ended the wait, if anything did.
    fn error(&mut self, what: &str, error: ExecuteError) -> anyhow::Error {
        match self.reader().failure.take() {
            Some(failure) => failure,
            None => anyhow!("QEMU's command '{what}' failed: {error}"),
        }
    }
}

/// Reads from QEMU within a wait limit.
struct QmpReader<'a, 'w> {
    socket: &'a UnixStream,
    wait: &'a mut WaitLimit<'w>,
    /// What ended the wait. The crate's errors cannot carry it.
    failure: Option<anyhow::Error>,
}

impl Read for QmpReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let ready = self.wait.ready(self.socket.as_fd(), PollFlags::POLLIN, None, "QEMU");
            if let Err(failure) = ready {
                self.failure = Some(failure);
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Sends each command at once, with a file if there is one to send.
struct QmpWriter<'a> {
    socket: &'a UnixStream,
    bytes: Vec<u8>,
    file: Option<OwnedFd>,
}

impl Write for QmpWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    /// Commands are short and QEMU has read the last one, so the socket has room for the whole command.
    fn flush(&mut self) -> io::Result<()> {
        let file = self.file.take();
        let numbers: Vec<_> = file.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let attached = if numbers.is_empty() { &[][..] } else { &rights };
        let bytes = std::mem::take(&mut self.bytes);
        let slices = [IoSlice::new(&bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &slices, attached, flags, None)?;
        if sent < bytes.len() { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::spawn;

    use super::*;

    const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}"#;

    /// The result of loading a state if QEMU answers with these lines.
    fn load_from(lines: &[&str]) -> Result<()> {
        ask(lines, |qemu| {
            qemu.keep_memory_apart()?;
            qemu.load(std::fs::File::open("/dev/null").unwrap())
        })
    }

    #[test]
    fn a_vm_with_a_network_goes_on_only_when_qemu_listens() {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(dir.path().join("net")).unwrap();
        let theirs = socket.try_clone().unwrap();
        let begun = Instant::now();
        let qemu = spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            theirs.set_nonblocking(true).unwrap();
        });
        ask(&[GREETING, r#"{"return":{}}"#], |client| client.wait_until_it_listens(&socket))
            .unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(50));
        qemu.join().unwrap();
    }

    /// The result of `work` if QEMU answers with these lines, the first as its greeting and one for each command.
    fn ask<T>(lines: &[&str], work: impl FnOnce(&mut QmpClient) -> Result<T>) -> Result<T> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let qemu = spawn(move || {
            let mut commands = BufReader::new(&theirs);
            for (number, line) in lines.iter().enumerate() {
                if number > 0 {
                    commands.read_line(&mut String::new()).unwrap();
                }
                writeln!(&theirs, "{line}").unwrap();
            }
        });
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        let result = QmpClient::open(Some(&ours), &mut wait).and_then(|mut qemu| work(&mut qemu));
        qemu.join().unwrap();
        result
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
    fn only_a_guest_that_waits_for_room_is_told_to_go_on() {
        let (runs, frozen, waits) = (
            r#"{"return":{"running":true,"status":"running"}}"#,
            r#"{"return":{"running":false,"status":"paused"}}"#,
            r#"{"return":{"running":false,"status":"io-error"}}"#,
        );
        let go_on = |lines: &[&str]| ask(lines, |qemu| qemu.go_on());
        assert!(!go_on(&[GREETING, DONE, runs]).unwrap());
        assert!(!go_on(&[GREETING, DONE, frozen]).unwrap());
        assert!(go_on(&[GREETING, DONE, waits, DONE, runs, waits]).unwrap());
        go_on(&[GREETING, DONE, waits]).unwrap_err();
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
    fn a_silent_qemu_is_waited_for_until_the_limit() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut wait = WaitLimit::within(Duration::from_millis(20));
        let error = QmpClient::open(Some(&ours), &mut wait).err().unwrap();
        assert!(Refusal::find(&error).is_some(), "{error}");
    }
}
