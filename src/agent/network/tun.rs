//! A TUN interface, for guests whose VMM has no network card: the agent passes its packets on to the network helper.
//!
//! The interface is made once, before a template is frozen, and stays. Its line to the host is the latest vsock
//! connection: each helper has a line of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;

use super::interface::{self, ETHERNET};
use crate::agent::serve::listener::AgentListener;
use crate::protocol::network::MTU;

/// The device that makes TUN interfaces.
const DEVICE: &str = "/dev/net/tun";

/// The length before each packet, with the most significant byte first.
const LENGTH: usize = 4;

/// A packet with its length.
type PacketBuffer = [u8; LENGTH + MTU];

/// The interface, and its line to the host if there is one.
struct TunLine {
    interface: File,
    host: Mutex<Option<Arc<UnixStream>>>,
}

/// Makes and configures the interface, and serves each connection of `listener` until the next one.
///
/// # Errors
/// The kernel has no TUN interfaces, or allows no more threads.
pub fn serve_in_thread(listener: AgentListener) -> Result<()> {
    let interface = open().with_context(|| format!("open {DEVICE}"))?;
    interface::configure(ETHERNET).context("configure the network interface")?;
    pass_packets(interface, listener)
}

/// Starts a thread for each direction. Those to the guest must not wait until those from it are taken: the helper
/// reads nothing while it has much to send.
fn pass_packets(interface: File, listener: AgentListener) -> Result<()> {
    let line = Arc::new(TunLine { interface, host: Mutex::new(None) });
    let sender = Arc::clone(&line);
    Builder::new().spawn(move || sender.send_forever()).context("start a thread for packets")?;
    let accepted = Builder::new().spawn(move || line.accept_forever(&listener));
    accepted.map(drop).context("start a thread for connections")
}

/// Opens the device and makes the interface, which lasts as long as the descriptor.
fn open() -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let mut request = interface::request_for(ETHERNET);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request reads and writes this structure.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(device)
}

impl TunLine {
    /// Passes the guest's packets on. Without a line they are lost, as on a network without a cable; while the line
    /// is full, the kernel keeps up to 500 of them.
    fn send_forever(&self) {
        let mut buffer: Box<PacketBuffer> = Box::new([0; LENGTH + MTU]);
        loop {
            let length = match (&self.interface).read(&mut buffer[LENGTH..]) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The interface is down, which the guest's root can do.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            let host = self.host.lock().ok().and_then(|host| host.clone());
            let Some(host) = host else { continue };
            buffer[..LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
            if (&*host).write_all(&buffer[..LENGTH + length]).is_err() {
                self.end(&host);
            }
        }
    }

    fn accept_forever(self: &Arc<Self>, listener: &AgentListener) {
        loop {
            let Ok(connection) = listener.accept() else {
                // Out of descriptors, or the client has left. A pause lets other threads close descriptors.
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            // A vsock connection is a stream socket like those of this type, which has no other use of its family.
            let host = Arc::new(UnixStream::from(connection));
            let earlier =
                self.host.lock().ok().and_then(|mut current| current.replace(host.clone()));
            if let Some(earlier) = earlier {
                let _ = earlier.shutdown(std::net::Shutdown::Both);
            }
            let line = Arc::clone(self);
            // Without a thread the connection is closed, which the helper sees.
            if Builder::new().spawn(move || line.receive(&host)).is_err() {
                self.host.lock().ok().and_then(|mut current| current.take());
            }
        }
    }

    /// Gives the host's packets to the guest, until the line ends or what comes is no packet.
    fn receive(&self, host: &Arc<UnixStream>) {
        let mut buffer: Box<PacketBuffer> = Box::new([0; LENGTH + MTU]);
        let mut input = io::BufReader::with_capacity(LENGTH + MTU, &**host);
        loop {
            let mut length = [0; LENGTH];
            if input.read_exact(&mut length).is_err() {
                break;
            }
            let length = u32::from_be_bytes(length) as usize;
            let Some(packet) = buffer.get_mut(..length).filter(|packet| packet.len() <= MTU) else {
                break;
            };
            if input.read_exact(packet).is_err() {
                break;
            }
            // The kernel refuses what is no packet, and all packets while the interface is down.
            let _ = (&self.interface).write(packet);
        }
        self.end(host);
    }

    /// Forgets a line that has ended, unless another has taken its place.
    fn end(&self, host: &Arc<UnixStream>) {
        let _ = host.shutdown(std::net::Shutdown::Both);
        if let Ok(mut current) = self.host.lock()
            && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, host))
        {
            *current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    /// Longer than anything here takes.
    const LIMIT: Duration = Duration::from_secs(20);

    /// The guest's kernel, and the address at which helpers connect. Its datagrams are packets.
    struct Guest {
        kernel: UnixDatagram,
        dir: tempfile::TempDir,
    }

    impl Guest {
        fn new() -> Guest {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("line")).unwrap();
            let (kernel, interface) = UnixDatagram::pair().unwrap();
            kernel.set_read_timeout(Some(LIMIT)).unwrap();
            let interface = File::from(OwnedFd::from(interface));
            pass_packets(interface, AgentListener::Unix(listener)).unwrap();
            Guest { kernel, dir }
        }

        /// A helper whose line is in use: it has sent a packet that the guest received.
        fn helper(&self) -> UnixStream {
            let helper = UnixStream::connect(self.dir.path().join("line")).unwrap();
            helper.set_read_timeout(Some(LIMIT)).unwrap();
            send(&helper, b"hello");
            assert_eq!(self.receive(), b"hello");
            helper
        }

        fn receive(&self) -> Vec<u8> {
            let mut packet = vec![0; MTU];
            let length = self.kernel.recv(&mut packet).unwrap();
            packet.truncate(length);
            packet
        }
    }

    fn send(mut helper: &UnixStream, packet: &[u8]) {
        helper.write_all(&(packet.len() as u32).to_be_bytes()).unwrap();
        helper.write_all(packet).unwrap();
    }

    fn receive(mut helper: &UnixStream) -> Vec<u8> {
        let mut length = [0; LENGTH];
        helper.read_exact(&mut length).unwrap();
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        helper.read_exact(&mut packet).unwrap();
        packet
    }

    /// It is another kind of end for a connection with bytes that were not read.
    fn has_ended(mut helper: &UnixStream) -> bool {
        match helper.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn packets_keep_their_lengths_in_both_directions() {
        let guest = Guest::new();
        let helper = guest.helper();
        for length in [1, 20, 1500, 65_000, MTU] {
            let packet: Vec<u8> = (0..length).map(|at| at as u8).collect();
            guest.kernel.send(&packet).unwrap();
            assert_eq!(receive(&helper), packet);
            send(&helper, &packet);
            assert_eq!(guest.receive(), packet);
        }
    }

    #[test]
    fn a_new_line_takes_the_place_of_the_last() {
        let guest = Guest::new();
        let mut earlier = guest.helper();
        for _ in 0..5 {
            let helper = guest.helper();
            assert!(has_ended(&earlier));
            guest.kernel.send(b"for the new one").unwrap();
            assert_eq!(receive(&helper), b"for the new one");
            earlier = helper;
        }
        earlier.shutdown(Shutdown::Both).unwrap();
        let helper = guest.helper();
        guest.kernel.send(b"again").unwrap();
        assert_eq!(receive(&helper), b"again");
    }

    #[test]
    fn a_line_that_is_full_is_replaced_too() {
        let guest = Guest::new();
        let full = guest.helper();
        guest.kernel.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // More than the line, the interface and the agent can hold.
        let mut sent = 0;
        while guest.kernel.send(&[7; 60_000]).is_ok() || sent == 0 {
            sent += 1;
            assert!(sent < 10_000, "packets are kept although none is read");
        }
        // The other direction is free.
        send(&full, b"answer");
        assert_eq!(guest.receive(), b"answer");
        let helper = guest.helper();
        guest.kernel.set_write_timeout(Some(LIMIT)).unwrap();
        guest.kernel.send(b"next").unwrap();
        while receive(&helper) != b"next" {}
    }

    #[test]
    fn a_broken_packet_ends_its_line_only() {
        let guest = Guest::new();
        for length in [MTU as u32 + 1, 0x0102_0304, u32::MAX] {
            let mut helper = guest.helper();
            helper.write_all(&length.to_be_bytes()).unwrap();
            assert!(has_ended(&helper));
        }
        let mut helper = guest.helper();
        helper.write_all(&[0, 0, 0, 9, 1]).unwrap();
        helper.shutdown(Shutdown::Write).unwrap();
        assert!(has_ended(&helper));
        guest.helper();
    }
}
