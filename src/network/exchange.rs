//! One question to the host's resolvers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::dns_stream::{framed, take_message};
use super::sockets;

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often all servers are asked.
const ROUNDS: usize = 2;

/// A message that waits for its answer.
#[derive(Debug)]
pub struct DnsExchange {
    message: Vec<u8>,
    socket: ExchangeSocket,
    /// How many servers were asked, with this one.
    tries: usize,
    pub deadline: Instant,
}

#[derive(Debug)]
enum ExchangeSocket {
    Datagrams(UdpSocket),
    Stream { stream: TcpStream, unsent: Vec<u8>, received: Vec<u8> },
}

impl DnsExchange {
    /// Asks the first of the servers after `tries` that can be asked. `None` if all were asked often enough.
    pub fn begin(
        servers: &[SocketAddr],
        message: &[u8],
        over_tcp: bool,
        mut tries: usize,
        now: Instant,
    ) -> Option<DnsExchange> {
        while tries < servers.len() * ROUNDS {
            let server = servers[tries % servers.len()];
            tries += 1;
            if let Ok(socket) = ExchangeSocket::open(server, message, over_tcp) {
                let message = message.to_vec();
                return Some(DnsExchange { message, socket, tries, deadline: now + PATIENCE });
            }
        }
        None
    }

    /// Asks the next server.
    pub fn again(&self, servers: &[SocketAddr], now: Instant) -> Option<DnsExchange> {
        let over_tcp = self.is_over_tcp();
        DnsExchange::begin(servers, &self.message, over_tcp, self.tries, now)
    }

    /// Asks the same server, over TCP.
    pub fn over_tcp(&self, servers: &[SocketAddr], now: Instant) -> Option<DnsExchange> {
        DnsExchange::begin(servers, &self.message, true, self.tries - 1, now)
    }

    pub fn is_over_tcp(&self) -> bool {
        matches!(self.socket, ExchangeSocket::Stream { .. })
    }

    /// Continues when the socket is ready, until it has a message.
    ///
    /// # Errors
    /// This server does not answer. `WouldBlock` means that it has not yet.
    pub fn proceed(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        match &mut self.socket {
            ExchangeSocket::Datagrams(socket) => {
                let count = socket.recv(&mut buffer)?;
                buffer.truncate(count);
                Ok(buffer)
            }
            ExchangeSocket::Stream { stream, unsent, received } => {
                sockets::connected(stream)?;
                while !unsent.is_empty() {
                    let count = stream.write(unsent)?;
                    unsent.drain(..count);
                }
                loop {
                    if let Some(message) = take_message(received) {
                        return Ok(message);
                    }
                    match stream.read(&mut buffer)? {
                        0 => return Err(ErrorKind::UnexpectedEof.into()),
                        count => received.extend_from_slice(&buffer[..count]),
                    }
                }
            }
        }
    }
}

impl ExchangeSocket {
    fn open(server: SocketAddr, message: &[u8], over_tcp: bool) -> io::Result<ExchangeSocket> {
        if over_tcp {
            let (stream, unsent) = (sockets::begin_connect(server)?, framed(message));
            return Ok(ExchangeSocket::Stream { stream, unsent, received: Vec::new() });
        }
        // A socket of its own has a port that cannot be guessed.
        let socket = sockets::datagrams_to(server)?;
        socket.send(message)?;
        Ok(ExchangeSocket::Datagrams(socket))
    }
}

impl AsFd for DnsExchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ExchangeSocket::Datagrams(socket) => socket.as_fd(),
            ExchangeSocket::Stream { stream, .. } => stream.as_fd(),
        }
    }
}
