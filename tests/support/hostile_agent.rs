//! An agent of a guest that was taken over. It is packed into an image in place of `mayfly-agent`, or runs as a process
//! of the mock backend. It starts well, and then lies to every client in the way that its VM's name says.

#![expect(clippy::disallowed_methods, reason = "it may panic if no thread can be started")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use mayfly::protocol::{
    ExecProgram, ExecRequest, FrameInbox, FrameKind, FrameOutbox, FrameSide, HelloAck,
    SetupRequest, VERSION,
};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tar::{EntryType, Header};

/// The behaviour that the name of the VM says, from its setup on.
static BEHAVIOUR: Mutex<String> = Mutex::new(String::new());

/// What a drip and a stream of garbage last if nobody ends them: longer than any deadline.
const LONG: Duration = Duration::from_secs(300);

const INFO: &[u8] = br#"{"version":"6.6.6","kernel":"6.6.6","init":true}"#;
const STARTED: &[u8] = br#"{"pid":7}"#;
const EXIT: &[u8] = br#"{"end":{"code":0},"timed_out":false,"duration_ms":3}"#;
const FORGED: &[u8] =
    b"{\"kind\":\"not_found\",\"message\":\"no\\u001b[2J\\r\\u202e such\\nmayfly: all is well\"}";

fn main() {
    if std::process::id() == 1 {
        for port in boot() {
            let port =
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(port);
            spawn(move || serve(&mut HostLine::new(port.unwrap(), true)));
        }
        loop {
            sleep(LONG);
        }
    }
    let mut arguments = std::env::args();
    let mut listeners = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--listen-fd" {
            let number = arguments.next().and_then(|number| number.parse().ok()).expect("a number");
            // SAFETY: the descriptor was inherited for this, and nothing else owns it.
            listeners.push(UnixListener::from(unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| spawn(move || accept(&listener))).collect();
    accepting.into_iter().for_each(|thread| drop(thread.join()));
}

fn accept(listener: &UnixListener) {
    for client in listener.incoming() {
        let client = client.unwrap();
        client.set_nonblocking(true).unwrap();
        spawn(move || serve(&mut HostLine::new(File::from(OwnedFd::from(client)), false)));
    }
}

/// Makes the ports of a guest usable, without disks, and returns their paths.
fn boot() -> Vec<PathBuf> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let _ = mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>);
    }
    for module in fs::read_to_string("/modules/order").unwrap().lines() {
        if !module.contains("vsock") {
            let file = File::open(format!("/modules/{module}")).unwrap();
            let _ = finit_module(&file, c"", ModuleInitFlags::empty());
        }
    }
    // All ports are announced before the first one is named.
    loop {
        let list = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten();
        let ports: Vec<PathBuf> = list.map(|port| port.path()).collect();
        let named = |port: &PathBuf| {
            fs::read_to_string(port.join("name")).is_ok_and(|name| !name.is_empty())
        };
        if !ports.is_empty() && ports.iter().all(named) {
            let devices =
                ports.iter().map(|port| PathBuf::from("/dev").join(port.file_name().unwrap()));
            return devices.collect();
        }
        sleep(Duration::from_millis(1));
    }
}

/// The client has gone, or another one has come.
struct ClientGone;

type Served<T = ()> = Result<T, ClientGone>;

/// A stream to the host: a connection, or a port that many clients use one after the other.
struct HostLine {
    stream: File,
    is_port: bool,
    inbox: FrameInbox,
    nonce: u64,
}

impl HostLine {
    fn new(stream: File, is_port: bool) -> HostLine {
        HostLine { stream, is_port, inbox: FrameInbox::default(), nonce: 0 }
    }

    fn wait(&self, events: PollFlags) {
        let _ = poll(&mut [PollFd::new(self.stream.as_fd(), events)], PollTimeout::from(20_u8));
    }

    /// Reads what there is. `false` if nothing will come any more.
    fn receive(&mut self) -> bool {
        let space = self.inbox.space();
        if space.is_empty() {
            self.inbox.clear();
            return true;
        }
        match self.stream.read(space) {
            Ok(0) if !self.is_port => return false,
            // No client has the port open.
            Ok(0) => sleep(Duration::from_millis(5)),
            Ok(count) => self.inbox.filled(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN),
            Err(_) => return self.is_port,
        }
        true
    }

    /// The next frame of this session.
    fn frame(&mut self) -> Served<(FrameKind, Vec<u8>)> {
        loop {
            match self.inbox.next_frame(FrameSide::Host, self.nonce) {
                Ok(Some(frame)) => return Ok((frame.kind, frame.payload.to_vec())),
                Ok(None) => {}
                // Another client's greeting.
                Err(_) => return Err(ClientGone),
            }
            if !self.receive() {
                return Err(ClientGone);
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Served {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLOUT);
                    self.notice_others()?;
                }
                Err(_) => return Err(ClientGone),
            }
        }
        Ok(())
    }

    /// Reads without waiting, and drops what is no greeting.
    fn notice_others(&mut self) -> Served {
        match self.stream.read(self.inbox.space()) {
            Ok(0) => return Err(ClientGone),
            Ok(count) => self.inbox.filled(count),
            Err(_) => {}
        }
        loop {
            match self.inbox.next_frame(FrameSide::Host, self.nonce) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(_) => return Err(ClientGone),
            }
        }
    }

    fn say(&mut self, kind: FrameKind, payload: &[u8]) -> Served {
        let mut outbox = FrameOutbox::default();
        outbox.push(kind, self.nonce, payload);
        self.send(outbox.pending())
    }

    fn header(&mut self, length: u32, kind: FrameKind) -> Served {
        let mut header = length.to_le_bytes().to_vec();
        header.push(kind as u8);
        header.extend(self.nonce.to_le_bytes());
        self.send(&header)
    }

    /// Bytes, one at a time, without end.
    fn drip(&mut self, mut say: impl FnMut(&mut HostLine) -> Served) -> Served {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            say(self)?;
            self.notice_others()?;
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Keeps silent until the client has gone.
    fn hear(&mut self) -> Served {
        loop {
            self.frame()?;
        }
    }
}

fn serve(line: &mut HostLine) {
    loop {
        let hello = loop {
            if let Some(hello) = line.inbox.find_hello() {
                break hello;
            }
            if !line.receive() {
                return;
            }
        };
        line.nonce = hello.nonce;
        let behaviour = BEHAVIOUR.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _ = converse(line, &behaviour);
    }
}

fn converse(line: &mut HostLine, behaviour: &str) -> Served {
    let ack = |nonce| HelloAck { version: VERSION, nonce }.encode();
    match behaviour {
        "silent" => return line.hear(),
        "garbage" => {
            return line
                .drip(|line| line.send(&[0xce, 0x41, 0x47, 0xff, 0, 0, 1, b'\n'].repeat(4096)));
        }
        "drip" => return line.drip(|line| line.send(b"\xce")),
        "wrong-nonce" => {
            return line.send(&ack(line.nonce.wrapping_add(1))).and_then(|()| line.hear());
        }
        "other-version" => {
            let other = HelloAck { version: u32::MAX, nonce: line.nonce }.encode();
            return line.send(&other).and_then(|()| line.hear());
        }
        _ => line.send(&ack(line.nonce))?,
    }
    if behaviour == "giant" {
        return line.header(u32::MAX, FrameKind::AgentInfo).and_then(|()| line.hear());
    }
    line.say(FrameKind::AgentInfo, INFO)?;
    let mut request = Vec::new();
    loop {
        let (kind, payload) = line.frame()?;
        match kind {
            FrameKind::Setup => set_up(line, &payload)?,
            FrameKind::Ttl | FrameKind::Shutdown if behaviour == "refuse" => {
                line.say(FrameKind::Error, FORGED)?
            }
            FrameKind::Ttl | FrameKind::Shutdown => line.say(FrameKind::Done, b"")?,
            FrameKind::ExecPart => request.extend(payload),
            FrameKind::Exec => {
                request.extend(payload);
                let request: ExecRequest =
                    serde_json::from_slice(&std::mem::take(&mut request)).unwrap();
                execute(line, behaviour, &request)?;
            }
            _ => {}
        }
    }
}

fn set_up(line: &mut HostLine, payload: &[u8]) -> Served {
    let setup: SetupRequest = serde_json::from_slice(payload).unwrap();
    if let Some(behaviour) = setup.hostname.strip_prefix("setup-") {
        return match behaviour {
            "silent" => line.hear(),
            "giant" => line.header(u32::MAX, FrameKind::Error).and_then(|()| line.hear()),
            "forged" => line.say(FrameKind::Error, FORGED),
            "garbage" => line.send(&[0xff; 100_000]),
            _ => line.say(FrameKind::Exit, EXIT),
        };
    }
    // The names of further VMs with the same behaviour go on after two hyphens.
    let behaviour = setup.hostname.split("--").next().unwrap_or_default();
    behaviour.clone_into(&mut BEHAVIOUR.lock().unwrap_or_else(PoisonError::into_inner));
    line.say(FrameKind::Done, b"")
}

fn execute(line: &mut HostLine, behaviour: &str, request: &ExecRequest) -> Served {
    use FrameKind::{Error, Exit, Started, Stderr, Stdout};
    match behaviour {
        "refuse" | "forged" => return line.say(Error, FORGED),
        "early-exit" => return line.say(Exit, EXIT).and_then(|()| line.hear()),
        "two-starts" => {
            return line.say(Started, STARTED).and_then(|()| line.say(Started, STARTED));
        }
        _ => line.say(Started, STARTED)?,
    }
    let is_copy = matches!(request.program, ExecProgram::Pack(_));
    match behaviour {
        "flood" => loop {
            line.say(Stdout, &[b'x'; 60_000])?;
            line.say(Stderr, b"mayfly: all is well\x1b[2J\r\n")?;
            line.notice_others()?;
        },
        "deaf" => line.hear(),
        "dripping-output" => line.drip(|line| line.say(Stdout, b"x")),
        "dripping-frame" => {
            line.header(60_000, Stdout)?;
            line.drip(|line| line.send(b"x"))
        }
        "late-giant" => line.header(u32::MAX, Stdout).and_then(|()| line.hear()),
        "two-exits" => {
            // In one piece, so that the second is there when the first is read.
            let mut outbox = FrameOutbox::default();
            outbox.push(Exit, line.nonce, EXIT);
            outbox.push(Exit, line.nonce, EXIT);
            line.send(outbox.pending())
        }
        "credit" => {
            line.say(FrameKind::StdinCredit, br#"{"bytes":4294967295}"#).and_then(|()| line.hear())
        }
        "huge-file" if is_copy => {
            line.say(Stdout, &tar_header(".", EntryType::Regular, (1 << 33) - 1))?;
            loop {
                line.say(Stdout, &[0; 60_000])?;
                line.notice_others()?;
            }
        }
        "endless-copy" if is_copy => {
            line.say(Stdout, &tar_header("./", EntryType::Directory, 0))?;
            for number in 0_u64.. {
                line.say(Stdout, &tar_header(&format!("f{number}"), EntryType::Regular, 0))?;
                line.notice_others()?;
            }
            Ok(())
        }
        "leading-out" if is_copy => {
            line.say(Stdout, &tar_header("./", EntryType::Directory, 0))?;
            line.say(Stdout, &tar_header("../canary\nmayfly: all is well", EntryType::Regular, 0))?;
            line.say(Stdout, &[0; 1024])?;
            line.say(Exit, EXIT)
        }
        "cut-copy" if is_copy => {
            line.say(Stdout, &tar_header(".", EntryType::Regular, 1000))?;
            line.say(Stdout, &[0; 500])?;
            line.say(Exit, EXIT)
        }
        _ => line.say(Exit, EXIT),
    }
}

fn tar_header(name: &str, kind: EntryType, size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}
