//! Ports of the guest that the host listens on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use mayfly::model::LinkKind;
use mayfly::model::PortProtocol;
use mayfly::network::order::PublishedSocket;
use smoltcp::socket::tcp::State;

use super::bytes;
use super::helper::{Helper, drain, order};
use crate::support::skip::skipped;

/// A guest with this socket published as its port 80.
fn publishing(socket: OwnedFd, protocol: PortProtocol) -> Helper {
    let mut order = order(LinkKind::Ethernet, &[]);
    let number = socket.as_raw_fd();
    order.publish = vec![PublishedSocket { socket: number, protocol, guest_port: 80 }];
    Helper::start(order, vec![socket])
}

fn tcp() -> (Helper, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (publishing(listener.into(), PortProtocol::Tcp), address)
}

#[test]
fn fifty_clients_get_what_the_guest_serves() {
    let (mut guest, address) = tcp();
    let mut servers: Vec<_> = (0..50).map(|_| guest.listen(80)).collect();
    let data = bytes(9, 100_000);
    let clients: Vec<_> = (0..50)
        .map(|number| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(&[number]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                (number, all)
            })
        })
        .collect();
    // Each client is sent its number and then the same bytes.
    let mut progress = vec![(Vec::new(), 0); servers.len()];
    guest.until(|guest| {
        for (handle, (request, sent)) in servers.iter().zip(&mut progress) {
            let socket = guest.tcp(*handle);
            drain(socket, request);
            if request.is_empty() || *sent > data.len() {
                continue;
            }
            let reply = [&request[..1], &data].concat();
            *sent += socket.send_slice(&reply[*sent..]).unwrap();
            if *sent == reply.len() {
                socket.close();
            }
        }
        let served = progress.iter().filter(|(_, sent)| *sent > data.len()).count();
        (served == 50 && clients.iter().all(|client| client.is_finished())).then_some(())
    });
    for client in clients {
        let (number, all) = client.join().unwrap();
        assert!(all[0] == number && all[1..] == data, "client {number}");
    }
    servers.clear();
}

#[test]
fn a_port_of_an_ipv6_address_leads_to_the_guest_too() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return skipped("this host has no IPv6");
    };
    let address = listener.local_addr().unwrap();
    let mut guest = publishing(listener.into(), PortProtocol::Tcp);
    let handle = guest.listen(80);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    let mut received = Vec::new();
    guest.until(|guest| {
        drain(guest.tcp(handle), &mut received);
        (received == b"hello").then_some(())
    });
}

#[test]
fn a_port_that_nothing_listens_on_resets_its_clients() {
    let (mut guest, address) = tcp();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nonblocking(true).unwrap();
    let error = guest.until(|_| match client.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        other => Some(other.unwrap_err().kind()),
    });
    assert_eq!(error, std::io::ErrorKind::ConnectionReset);
    let handle = guest.listen(80);
    let _client = TcpStream::connect(address).unwrap();
    guest.until(|guest| (guest.tcp(handle).state() == State::Established).then_some(()));
}

#[test]
fn datagrams_reach_the_guest_and_its_answers_their_clients() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut guest = publishing(socket.into(), PortProtocol::Udp);
    let handle = guest.datagrams(80);
    let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.set_nonblocking(true).unwrap();
        client.send_to(&[number as u8], address).unwrap();
    }
    let mut answered = 0;
    guest.until(|guest| {
        while let Ok((data, from)) = guest.udp(handle).recv() {
            let (reply, to) = ([data[0], 7], from.endpoint);
            guest.udp(handle).send_slice(&reply, to).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let mut reply = [0; 2];
            if let Ok((2, from)) = client.recv_from(&mut reply) {
                assert_eq!((reply, from), ([number as u8, 7], address));
                answered += 1;
            }
        }
        (answered == clients.len()).then_some(())
    });
}
