//! A helper, and the guest at the other end of its line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::CommandFdExt;
use mayfly::host::launcher::{HostUser, LaunchBounds, LaunchProgram};
use mayfly::model::LinkKind;
use mayfly::network::addresses::{
    GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, PREFIX_V4, PREFIX_V6,
};
use mayfly::network::denials::NetworkEvent;
use mayfly::network::line::{LineReader, MTU};
use mayfly::network::order::NetworkOrder;
use mayfly::protocol::network::GUEST_MAC;
use mayfly::sys::poll::{PollFlags, wait_for};
use nix::unistd::geteuid;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as Stamp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use crate::support::programs::mayfly;

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A helper process, and a TCP/IP stack that is its guest.
pub struct Helper {
    child: Child,
    events: File,
    begun: Instant,
    pub line: GuestLine,
    interface: Interface,
    pub sockets: SocketSet<'static>,
    last_port: u16,
}

/// An order in which only the rules are given.
pub fn order(link: LinkKind, rules: &[&str]) -> NetworkOrder {
    NetworkOrder {
        line: 0,
        link,
        mode: Default::default(),
        allow: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        publish: Vec::new(),
        resolvers: Vec::new(),
        search: Vec::new(),
        hostname: None,
        events: None,
    }
}

impl Helper {
    /// Starts one with rules.
    pub fn with_rules(rules: &[&str]) -> Helper {
        Helper::start(order(LinkKind::Ip, rules), Vec::new())
    }

    /// Starts one through the launcher, as VMs do. `files` are open in it too.
    pub fn start(mut order: NetworkOrder, mut files: Vec<OwnedFd>) -> Helper {
        let (line, theirs) = UnixStream::pair().unwrap();
        line.set_nonblocking(true).unwrap();
        let events = tempfile::tempfile().unwrap();
        let theirs_events =
            File::options().append(true).open(mayfly::sys::descriptor::path(&events)).unwrap();
        (order.line, order.events) = (theirs.as_raw_fd(), Some(theirs_events.as_raw_fd()));
        let document = order.to_file().unwrap();
        let number = document.as_raw_fd();
        files.extend([theirs.into(), theirs_events.into(), document]);
        let nobody = HostUser { uid: 65_534, gid: 65_534, groups: Vec::new() };
        let program = LaunchProgram {
            path: "/proc/self/exe".into(),
            args: vec!["__net".into(), number.to_string()],
            env: Vec::new(),
            cwd: "/".into(),
            user: geteuid().is_root().then_some(nobody),
            files: files.iter().map(AsRawFd::as_raw_fd).collect(),
            bounds: LaunchBounds::default(),
        };
        let mut child = Command::new(mayfly())
            .arg("__launcher")
            .stdin(Stdio::piped())
            .preserved_fds(files)
            .spawn()
            .unwrap();
        let program = serde_json::to_string(&program).unwrap();
        writeln!(child.stdin.take().unwrap(), "{program}").unwrap();
        Helper::joined(child, events, line, order.link)
    }

    fn joined(child: Child, events: File, line: UnixStream, link: LinkKind) -> Helper {
        let mut line = GuestLine {
            line,
            link,
            reader: LineReader::default(),
            received: VecDeque::new(),
            unsent: Vec::new(),
            unreachable: Vec::new(),
            about_connections: Vec::new(),
            repeated: 0,
            resets: Vec::new(),
        };
        let hardware = match link {
            LinkKind::Ip => HardwareAddress::Ip,
            LinkKind::Ethernet => HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC)),
        };
        let mut interface = Interface::new(Config::new(hardware), &mut line, Stamp::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(GUEST_V4.into(), PREFIX_V4)).unwrap();
            addresses.push(IpCidr::new(GUEST_V6.into(), PREFIX_V6)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(GATEWAY_V4).unwrap();
        interface.routes_mut().add_default_ipv6_route(GATEWAY_V6).unwrap();
        Helper {
            child,
            events,
            begun: Instant::now(),
            line,
            interface,
            sockets: SocketSet::new(Vec::new()),
            last_port: 49_152,
        }
    }

    /// What the kernel says about the process.
    pub fn status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap()
    }

    /// KiB of memory that is its own: the pages of the program are those of all its processes.
    pub fn resident(&self) -> u64 {
        let status = self.status();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The events so far.
    pub fn events(&self) -> Vec<NetworkEvent> {
        let mut file = self.events.try_clone().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What was denied so far, each with its reason.
    pub fn denied(&self) -> Vec<String> {
        let attempts = self.events().into_iter().filter_map(|event| event.attempt);
        attempts
            .map(|attempt| {
                let reason = serde_json::to_string(&attempt.reason).unwrap();
                format!("{:?} {} {reason} {:?}", attempt.kind, attempt.to, attempt.allow)
            })
            .collect()
    }

    /// Lets the guest work until `done` returns something.
    #[track_caller]
    pub fn until<T>(&mut self, mut done: impl FnMut(&mut Helper) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.line.fill();
            let stamp = Stamp::from_micros(self.begun.elapsed().as_micros() as i64);
            self.interface.poll(stamp, &mut self.line, &mut self.sockets);
            self.line.flush();
            if let Some(result) = done(self) {
                return result;
            }
            assert!(Instant::now() < deadline, "it takes too long; denied: {:?}", self.denied());
            let delay =
                self.interface.poll_delay(stamp, &self.sockets).map_or(5, |d| d.total_millis());
            let unsent = !self.line.unsent.is_empty();
            let events =
                if unsent { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let pause = Duration::from_millis(delay.min(5));
            wait_for(self.line.line.as_fd(), events, Some(Instant::now() + pause)).unwrap();
        }
    }

    /// Begins a connection of the guest.
    pub fn dial(&mut self, to: SocketAddr, buffer: usize) -> SocketHandle {
        self.last_port += 1;
        let port = self.last_port;
        let [receive, send] = [(); 2].map(|()| tcp::SocketBuffer::new(vec![0; buffer]));
        let mut socket = tcp::Socket::new(receive, send);
        socket.connect(self.interface.context(), (to.ip(), to.port()), port).unwrap();
        self.sockets.add(socket)
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A connection of the guest that is there.
    #[track_caller]
    pub fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        let handle = self.dial(to, 64 << 10);
        self.until(|guest| guest.tcp(handle).may_send().then_some(()));
        handle
    }

    /// Waits until a connection is there or not, and returns whether it is.
    #[track_caller]
    pub fn is_connected(&mut self, to: SocketAddr) -> bool {
        let handle = self.dial(to, 4096);
        let seen = self.line.unreachable.len();
        self.until(|guest| {
            let told = guest.line.unreachable.len() > seen;
            match guest.tcp(handle).state() {
                tcp::State::SynSent if !told => None,
                state => Some(state == tcp::State::Established),
            }
        })
    }

    /// Listens in the guest.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let [receive, send] = [(); 2].map(|()| tcp::SocketBuffer::new(vec![0; 64 << 10]));
        let mut socket = tcp::Socket::new(receive, send);
        socket.listen(port).unwrap();
        self.sockets.add(socket)
    }

    /// A socket of the guest for datagrams.
    pub fn datagrams(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 128 << 10]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends a datagram.
    pub fn send(&mut self, handle: SocketHandle, to: impl Into<SocketAddr>, data: &[u8]) {
        let to = to.into();
        self.udp(handle).send_slice(data, (to.ip(), to.port())).unwrap();
    }

    /// Sends a datagram and returns the first one that comes back.
    #[track_caller]
    pub fn ask(&mut self, handle: SocketHandle, to: SocketAddr, data: &[u8]) -> Vec<u8> {
        self.send(handle, to, data);
        self.until(|guest| {
            let (data, from) = guest.udp(handle).recv().ok()?;
            assert_eq!(IpAddr::from(from.endpoint.addr), to.ip());
            Some(data.to_vec())
        })
    }

    /// Sends all bytes and ends the guest's half, while it reads until the other half ends.
    #[track_caller]
    pub fn exchange(&mut self, handle: SocketHandle, data: &[u8]) -> Vec<u8> {
        let (mut sent, mut received) = (0, Vec::new());
        self.until(|guest| {
            let socket = guest.tcp(handle);
            if sent < data.len() {
                sent += socket.send_slice(&data[sent..]).unwrap();
                if sent == data.len() {
                    socket.close();
                }
            }
            drain(socket, &mut received);
            (!socket.may_recv() && sent == data.len()).then_some(())
        });
        received
    }

    /// Whether the helper has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// Takes everything that was received.
pub fn drain(socket: &mut tcp::Socket<'_>, into: &mut Vec<u8>) {
    while socket.can_recv() {
        let taken = socket.recv(|bytes| {
            into.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        });
        if taken.unwrap() == 0 {
            break;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guest's end of the line.
pub struct GuestLine {
    pub line: UnixStream,
    link: LinkKind,
    reader: LineReader,
    received: VecDeque<Vec<u8>>,
    unsent: Vec<u8>,
    /// Types and codes of the errors that were received. Those about connections are told again, and are here once.
    pub unreachable: Vec<(u8, u8)>,
    /// The beginnings of SYNs that errors were about.
    about_connections: Vec<Vec<u8>>,
    /// How many errors were told again.
    pub repeated: usize,
    /// Ports of the guest whose connections were reset.
    pub resets: Vec<u16>,
}

impl GuestLine {
    fn fill(&mut self) {
        while let Ok(1..) = self.reader.fill(&self.line) {
            while let Some(frame) = self.reader.next_frame().unwrap().map(<[u8]>::to_vec) {
                let packet = if self.link == LinkKind::Ethernet {
                    // Linux takes no connections from frames for all.
                    assert_ne!(frame[..6], [0xff; 6]);
                    &frame[14..]
                } else {
                    &frame
                };
                match (packet[0] >> 4, packet[9], packet[6]) {
                    (4, 1, _) if packet[20] == 3 => self.told((3, packet[21]), &packet[28..]),
                    (4, 6, _) if packet[33] & 4 != 0 => {
                        self.resets.push(u16::from_be_bytes([packet[22], packet[23]]));
                    }
                    (6, _, 58) if packet[40] == 1 => self.told((1, packet[41]), &packet[48..]),
                    _ => {}
                }
                self.received.push_back(frame);
            }
        }
    }

    fn told(&mut self, error: (u8, u8), quoted: &[u8]) {
        let protocol = if quoted[0] >> 4 == 4 { quoted[9] } else { quoted[6] };
        let is_about_connection = protocol == 6;
        if is_about_connection && self.about_connections.iter().any(|known| known == quoted) {
            self.repeated += 1;
            return;
        }
        if is_about_connection {
            self.about_connections.push(quoted.to_vec());
        }
        self.unreachable.push(error);
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.unsent.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.unsent.extend_from_slice(frame);
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.line.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(_) => return,
            }
        }
    }
}

pub struct Received(Vec<u8>);

pub struct Place<'a>(&'a mut GuestLine);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Place<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.send(&frame);
        result
    }
}

impl Device for GuestLine {
    type RxToken<'a> = Received;
    type TxToken<'a> = Place<'a>;

    fn receive(&mut self, _: Stamp) -> Option<(Received, Place<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Place(self)))
    }

    fn transmit(&mut self, _: Stamp) -> Option<Place<'_>> {
        (self.unsent.len() < 1 << 20).then_some(Place(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        let is_ethernet = self.link == LinkKind::Ethernet;
        capabilities.medium = if is_ethernet { Medium::Ethernet } else { Medium::Ip };
        capabilities.max_transmission_unit = if is_ethernet { MTU + 14 } else { MTU };
        capabilities
    }
}
