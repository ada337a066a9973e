//! One connection of the guest, with its other end on the host.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant as Stamp};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::dns_stream::DnsStream;
use super::line::{LineWriter, MTU};
use super::sockets;

/// A guest that does not answer for this long is gone.
const PATIENCE: Duration = Duration::from_secs(120);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How often bytes are moved in one turn, before other connections have theirs.
const TURNS: usize = 4;

/// The other end of a guest's connection.
#[derive(Debug)]
pub enum HostEnd {
    Socket(TcpStream),
    /// Queries to the gateway.
    Dns(DnsStream),
}

impl HostEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            HostEnd::Socket(stream) => stream.read(buffer),
            HostEnd::Dns(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            HostEnd::Socket(stream) => stream.write(bytes),
            HostEnd::Dns(stream) => stream.write(bytes),
        }
    }

    fn end_output(&mut self) {
        match self {
            HostEnd::Socket(stream) => drop(stream.shutdown(Shutdown::Write)),
            HostEnd::Dns(stream) => stream.end_input(),
        }
    }
}

/// What a connection needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowState {
    /// Another turn, now.
    Busy,
    /// Events; or a turn at this time.
    Waiting(Option<Instant>),
    Over,
}

/// An open connection: a TCP/IP stack that has only this one.
pub struct TcpFlow {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    host: HostEnd,
    begun: Instant,
    /// Whether reading from the host may give something, and writing have room.
    pub readable: bool,
    pub writable: bool,
    host_ended: bool,
    /// The guest sends no more, but the host may not have everything yet.
    guest_ends: bool,
    /// The host has everything.
    guest_ended: bool,
    /// The host takes no more.
    is_broken: bool,
}

impl TcpFlow {
    /// A connection from the guest to `to`. The first packet that it is given must be the guest's SYN.
    pub fn from_guest(to: SocketAddr, host: HostEnd, buffer: usize, seed: u64) -> Option<TcpFlow> {
        let mut flow = TcpFlow::new(to.ip(), host, buffer, seed)?;
        flow.socket().listen((to.ip(), to.port())).ok()?;
        Some(flow)
    }

    /// A connection to the guest at `to`, which comes from `from`.
    pub fn to_guest(
        from: SocketAddr,
        to: SocketAddr,
        stream: TcpStream,
        buffer: usize,
        seed: u64,
    ) -> Option<TcpFlow> {
        let mut flow = TcpFlow::new(from.ip(), HostEnd::Socket(stream), buffer, seed)?;
        let TcpFlow { interface, sockets, handle, .. } = &mut flow;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        let (to, from) = ((to.ip(), to.port()), (from.ip(), from.port()));
        socket.connect(interface.context(), to, from).ok()?;
        Some(flow)
    }

    fn new(own: IpAddr, host: HostEnd, buffer: usize, seed: u64) -> Option<TcpFlow> {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut NoDevice, Stamp::ZERO);
        let prefix = if own.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            // There is room for more than one.
            let _ = addresses.push(IpCidr::new(own.into(), prefix));
        });
        match own {
            IpAddr::V4(own) => drop(interface.routes_mut().add_default_ipv4_route(own).ok()?),
            IpAddr::V6(own) => drop(interface.routes_mut().add_default_ipv6_route(own).ok()?),
        }
        let [receive, send] = [0, 0].map(|_: u8| SocketBuffer::new(vec![0; buffer]));
        let mut socket = Socket::new(receive, send);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(PATIENCE));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(TcpFlow {
            interface,
            sockets,
            handle,
            host,
            begun: Instant::now(),
            readable: true,
            writable: true,
            host_ended: false,
            guest_ends: false,
            guest_ended: false,
            is_broken: false,
        })
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'static>>(self.handle)
    }

    /// The queries of a connection to the gateway.
    pub fn dns(&mut self) -> Option<&mut DnsStream> {
        match &mut self.host {
            HostEnd::Dns(stream) => Some(stream),
            HostEnd::Socket(_) => None,
        }
    }

    fn stamp(&self, now: Instant) -> Stamp {
        Stamp::from_micros(now.saturating_duration_since(self.begun).as_micros() as i64)
    }

    /// Takes a packet of the guest.
    pub fn receive(&mut self, packet: &[u8], now: Instant, out: &mut LineWriter) {
        let stamp = self.stamp(now);
        let mut device = LineDevice { received: Some(packet), out };
        self.interface.poll(stamp, &mut device, &mut self.sockets);
    }

    fn send(&mut self, now: Instant, out: &mut LineWriter) {
        let stamp = self.stamp(now);
        self.interface.poll(stamp, &mut LineDevice { received: None, out }, &mut self.sockets);
    }

    /// Moves bytes both ways.
    pub fn work(&mut self, now: Instant, out: &mut LineWriter) -> FlowState {
        let mut moved = true;
        for _ in 0..TURNS {
            self.send(now, out);
            // Both, whatever the first one moved.
            moved = self.guest_to_host() | self.host_to_guest();
            if !moved || !out.has_room() {
                break;
            }
        }
        self.send(now, out);
        if matches!(self.socket().state(), State::Closed | State::TimeWait) {
            let is_late = self.guest_ends && !self.guest_ended && !self.is_broken;
            return if is_late { FlowState::Waiting(None) } else { FlowState::Over };
        }
        if moved || !out.has_room() {
            return FlowState::Busy;
        }
        let stamp = self.stamp(now);
        let delay = self.interface.poll_delay(stamp, &self.sockets);
        FlowState::Waiting(delay.map(|delay| now + delay.into()))
    }

    fn guest_to_host(&mut self) -> bool {
        let mut moved = false;
        let TcpFlow { sockets, handle, host, writable, guest_ends, guest_ended, .. } = self;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        while *writable && socket.can_recv() {
            let result = socket.recv(|bytes| match host.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match result {
                Ok(Ok(_)) => moved = true,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
                _ => {
                    socket.abort();
                    self.is_broken = true;
                    return true;
                }
            }
        }
        *guest_ends |= matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if *guest_ends && !*guest_ended && !socket.can_recv() {
            *guest_ended = true;
            host.end_output();
            moved = true;
        }
        moved
    }

    fn host_to_guest(&mut self) -> bool {
        let TcpFlow { sockets, handle, host, readable, host_ended, .. } = self;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        if !*readable || *host_ended || !socket.can_send() {
            return false;
        }
        let result = socket.send(|buffer| match host.read(buffer) {
            Ok(count) => (count, Ok(count)),
            Err(error) => (0, Err(error)),
        });
        match result {
            Ok(Ok(0)) => {
                *host_ended = true;
                socket.close();
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                *readable = false;
                return false;
            }
            _ => {
                socket.abort();
                self.is_broken = true;
            }
        }
        true
    }

    /// Closes the host's end: with an error if one of the ends was not finished.
    pub fn finish(self) {
        if let HostEnd::Socket(stream) = self.host
            && !(self.host_ended && self.guest_ended)
        {
            sockets::reset(stream);
        }
    }
}

/// What a flow's stack takes for its network card.
struct LineDevice<'a> {
    received: Option<&'a [u8]>,
    out: &'a mut LineWriter,
}

struct ReceivedPacket<'a>(&'a [u8]);

struct PacketPlace<'a>(&'a mut LineWriter);

impl RxToken for ReceivedPacket<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for PacketPlace<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.0.packet(length, fill)
    }
}

fn capabilities() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MTU;
    capabilities.checksum = ChecksumCapabilities::default();
    capabilities
}

impl Device for LineDevice<'_> {
    type RxToken<'b>
        = ReceivedPacket<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = PacketPlace<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Stamp) -> Option<(ReceivedPacket<'_>, PacketPlace<'_>)> {
        let packet = self.received.take()?;
        Some((ReceivedPacket(packet), PacketPlace(self.out)))
    }

    fn transmit(&mut self, _: Stamp) -> Option<PacketPlace<'_>> {
        self.out.has_room().then_some(PacketPlace(self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

/// Describes the line to a new stack, which sends nothing yet.
struct NoDevice;

impl Device for NoDevice {
    type RxToken<'b> = ReceivedPacket<'b>;
    type TxToken<'b> = PacketPlace<'b>;

    fn receive(&mut self, _: Stamp) -> Option<(ReceivedPacket<'_>, PacketPlace<'_>)> {
        None
    }

    fn transmit(&mut self, _: Stamp) -> Option<PacketPlace<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}
