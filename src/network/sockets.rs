//! Sockets of the host that are never waited for.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, connect, socket_with};

fn open(to: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}

/// Begins to connect. When the socket can be written to, [`connected`] has the result.
///
/// # Errors
/// The kernel refuses at once, for example because there is no route.
pub fn begin_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = open(to, SocketType::STREAM)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How connecting ended.
///
/// # Errors
/// Those of connect(2).
pub fn connected(stream: &TcpStream) -> io::Result<()> {
    Ok(socket_error(stream)??)
}

/// A socket that sends to one address and receives only from there.
///
/// # Errors
/// As for [`begin_connect`].
pub fn datagrams_to(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(to, SocketType::DGRAM)?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

/// A connection that waits at a listening socket.
///
/// # Errors
/// Those of accept(2); `WouldBlock` if there is none.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let socket = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Ends a connection so that its other end gets an error instead of the end of the stream.
pub fn reset(stream: TcpStream) {
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
}

/// The address this host would send from. No packet is sent.
pub fn source_of_packets_to(address: IpAddr) -> Option<IpAddr> {
    let socket = datagrams_to(SocketAddr::new(address, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    // Linux connects to these addresses as to loopback.
    let is_any = source == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || address.is_unspecified();
    Some(if is_any { address } else { source })
}
