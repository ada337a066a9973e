//! The published ports of a VM. They are bound before anything else starts, so that a port that is in use is reported
//! at once.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::Result;

use crate::model::{PortProtocol, PublishedPort, Refusal, RefusalKind};

/// Sockets of the host for a VM's published ports.
#[derive(Debug, Default)]
pub struct BoundPorts {
    pub sockets: Vec<(PublishedPort, OwnedFd)>,
}

impl BoundPorts {
    /// Binds all ports, and listens on those of TCP. A host port of 0 becomes the one that the kernel chose.
    ///
    /// # Errors
    /// `Busy` if another process has a port, `Host` if it cannot be had for another reason.
    pub fn bind(ports: &[PublishedPort]) -> Result<BoundPorts> {
        let sockets = ports.iter().map(|&port| bind(port));
        Ok(BoundPorts { sockets: sockets.collect::<Result<_, Refusal>>()? })
    }

    /// As [`BoundPorts::bind`], but leaves out the ports that cannot be had, and returns why.
    pub fn bind_free(ports: &[PublishedPort]) -> (BoundPorts, Vec<Refusal>) {
        let (mut sockets, mut refused) = (Vec::new(), Vec::new());
        for &port in ports {
            match bind(port) {
                Ok(bound) => sockets.push(bound),
                Err(refusal) => refused.push(refusal),
            }
        }
        (BoundPorts { sockets }, refused)
    }

    /// The ports, with the real host ports.
    pub fn ports(&self) -> Vec<PublishedPort> {
        self.sockets.iter().map(|(port, _)| *port).collect()
    }
}

fn bind(port: PublishedPort) -> Result<(PublishedPort, OwnedFd), Refusal> {
    let (socket, address) = open(port).map_err(|error| refuse(port, &error))?;
    Ok((PublishedPort { host_port: address.port(), ..port }, socket))
}

fn open(port: PublishedPort) -> std::io::Result<(OwnedFd, SocketAddr)> {
    let address = SocketAddr::new(port.address, port.host_port);
    Ok(match port.protocol {
        PortProtocol::Tcp => {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            (listener.into(), address)
        }
        PortProtocol::Udp => {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            (socket.into(), address)
        }
    })
}

fn refuse(port: PublishedPort, error: &std::io::Error) -> Refusal {
    let address = SocketAddr::new(port.address, port.host_port);
    let protocol = if port.protocol == PortProtocol::Udp { "UDP" } else { "TCP" };
    let refuse = |kind, why: &str| {
        Refusal::new(kind, format!("cannot publish {protocol} port {address}: {why}"))
    };
    match error.kind() {
        ErrorKind::AddrInUse => refuse(RefusalKind::Busy, "another process has it")
            .hint(format!("'--publish 0:{}' takes a free port", port.guest_port)),
        ErrorKind::PermissionDenied => {
            refuse(RefusalKind::Host, "ports below 1024 need privileges here")
                .hint(format!("publish a higher port, such as {}:{}", 8000, port.guest_port))
        }
        ErrorKind::AddrNotAvailable => {
            refuse(RefusalKind::Host, "it is not an address of this host").hint(format!(
                "'ip address' shows them; without one, '--publish {}:{}' is for 127.0.0.1",
                port.host_port, port.guest_port
            ))
        }
        _ => refuse(RefusalKind::Host, &error.to_string()),
    }
}
