//! Connections of a guest to servers that a rule allows.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mayfly::model::LinkKind;
use smoltcp::socket::tcp::State;

use super::helper::{Helper, drain, order};
use super::{bytes, echo, server};

#[test]
fn bytes_arrive_whole_over_both_kinds_of_line() {
    let address = server(echo);
    let data = bytes(1, 3 << 20);
    for link in [LinkKind::Ip, LinkKind::Ethernet] {
        let mut guest = Helper::start(order(link, &["127.0.0.1"]), Vec::new());
        let handle = guest.connect(address);
        assert!(guest.exchange(handle, &data) == data, "{link:?}");
    }
}

#[test]
fn a_refused_connection_is_refused_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    assert!(!guest.is_connected(address));
    assert_eq!(guest.line.unreachable, []);
    assert_eq!(guest.denied(), [""; 0]);
}

#[test]
fn sixty_four_connections_at_once_keep_their_bytes_apart() {
    let address = server(echo);
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let all: Vec<_> = (0..64).map(|_| guest.dial(address, 64 << 10)).collect();
    let data: Vec<Vec<u8>> = (0..64).map(|seed| bytes(seed, 200_000)).collect();
    let mut sent = vec![0; all.len()];
    let mut received = vec![Vec::new(); all.len()];
    guest.until(|guest| {
        for (place, handle) in all.iter().enumerate() {
            let socket = guest.tcp(*handle);
            if socket.may_send() && sent[place] < data[place].len() {
                sent[place] += socket.send_slice(&data[place][sent[place]..]).unwrap();
            }
            drain(socket, &mut received[place]);
        }
        received.iter().all(|bytes| bytes.len() >= 200_000).then_some(())
    });
    assert!(received == data);
}

#[test]
fn the_guest_may_end_its_half_first() {
    // The server answers only when it has everything.
    let address = server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(all.len().to_string().as_bytes()).unwrap();
    });
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let handle = guest.connect(address);
    assert_eq!(guest.exchange(handle, &bytes(2, 500_000)), b"500000");
}

#[test]
fn the_server_may_end_its_half_first() {
    let (sender, receiver) = mpsc::channel();
    let address = server(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        sender.send(all).unwrap();
    });
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let handle = guest.connect(address);
    let mut received = Vec::new();
    guest.until(|guest| {
        drain(guest.tcp(handle), &mut received);
        (guest.tcp(handle).state() == State::CloseWait).then_some(())
    });
    assert_eq!(received, b"bye");
    let data = bytes(3, 200_000);
    assert_eq!(guest.exchange(handle, &data), b"");
    assert!(guest.until(|_| receiver.try_recv().ok()) == data);
}

#[test]
fn a_reset_reaches_the_other_end_from_both_sides() {
    let (sender, receiver) = mpsc::channel();
    let address = server(move |mut stream| {
        let mut byte = [0];
        match stream.read(&mut byte) {
            // The server goes away with bytes unread, which resets the connection.
            Ok(1) => {}
            other => sender.send(other.map_err(|error| error.kind())).unwrap(),
        }
    });
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let handle = guest.connect(address);
    guest.tcp(handle).abort();
    let ended = guest.until(|_| receiver.try_recv().ok());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    let handle = guest.connect(address);
    guest.tcp(handle).send_slice(b"two").unwrap();
    guest.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
}

#[test]
fn a_reader_that_waits_loses_nothing_and_costs_no_memory() {
    let data = bytes(4, 16 << 20);
    let sent = data.clone();
    let address = server(move |mut stream| drop(stream.write_all(&sent)));
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let handle = guest.connect(address);
    guest.until(|guest| (guest.tcp(handle).recv_queue() > 32 << 10).then_some(()));
    let until = Instant::now() + Duration::from_millis(300);
    guest.until(|_| (Instant::now() > until).then_some(()));
    assert!(guest.resident() < 8 << 10, "{} KiB", guest.resident());
    // Others are served meanwhile.
    let other = guest.connect(server(echo));
    assert_eq!(guest.exchange(other, b"hello"), b"hello");
    assert!(guest.exchange(handle, b"") == data);
}

#[test]
fn datagrams_go_both_ways_and_a_closed_port_is_reported() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed_address = closed.local_addr().unwrap();
    drop(closed);
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..count], from).unwrap();
        }
    });
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let handle = guest.datagrams(5000);
    for length in [0, 1, 1400, 60_000] {
        let data = bytes(5, length);
        assert!(guest.ask(handle, address, &data) == data, "{length}");
    }
    guest.send(handle, closed_address, b"x");
    guest.until(|guest| guest.line.unreachable.pop().filter(|error| *error == (3, 3)));
}

#[test]
fn the_hosts_loopback_is_behind_the_gateway_if_a_rule_says_so() {
    let address = server(echo);
    let mut guest = Helper::with_rules(&[&format!("host:{}", address.port())]);
    let gateway = ([192, 0, 0, 1], address.port()).into();
    let handle = guest.connect(gateway);
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
    assert!(!guest.is_connected(address));
    let other = server(echo).port();
    assert!(!guest.is_connected(([192, 0, 0, 1], other).into()));
    assert_eq!(
        guest.denied(),
        [
            format!("Tcp {address} {{\"special\":\"loopback\"}} Some(\"{address}\")"),
            format!("Tcp host:{other} \"not_allowed\" Some(\"host:{other}\")"),
        ]
    );
}

#[test]
fn the_helper_ends_with_its_line() {
    let mut guest = Helper::with_rules(&[]);
    let handle = guest.datagrams(5000);
    // It is at work.
    guest.send(handle, ([1, 1, 1, 1], 1), b"x");
    guest.until(|guest| guest.line.unreachable.pop());
    guest.line.line.shutdown(Shutdown::Both).unwrap();
    ends(guest);
}

#[test]
fn a_frame_that_is_too_long_ends_the_helper_before_it_is_read() {
    let mut guest = Helper::with_rules(&[]);
    guest.line.line.write_all(&u32::MAX.to_be_bytes()).unwrap();
    ends(guest);
}

fn ends(mut guest: Helper) {
    let begun = Instant::now();
    while !guest.has_ended() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(1));
    }
}

/// A measurement, for whoever wants to know: `cargo test --release --test library throughput -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn throughput() {
    const TOTAL: usize = 512 << 20;
    let sink = server(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let source = server(|mut stream| {
        let block = vec![7; 1 << 20];
        for _ in 0..TOTAL >> 20 {
            stream.write_all(&block).unwrap();
        }
    });
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    println!("idle: {} KiB", guest.resident());
    let begun = Instant::now();
    for _ in 0..200 {
        let handle = guest.connect(sink);
        guest.tcp(handle).abort();
        guest.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
        guest.sockets.remove(handle);
    }
    println!("a short connection: {:?}", begun.elapsed() / 200);
    let (block, handle) = (vec![7; 64 << 10], guest.connect(sink));
    let (begun, mut sent) = (Instant::now(), 0);
    guest.until(|guest| {
        sent += guest.tcp(handle).send_slice(&block).unwrap();
        (sent >= TOTAL).then_some(())
    });
    println!("up: {:.0} Mbit/s", TOTAL as f64 * 8e-6 / begun.elapsed().as_secs_f64());
    let handle = guest.connect(source);
    let (begun, mut received) = (Instant::now(), 0);
    guest.until(|guest| {
        let socket = guest.tcp(handle);
        while socket.can_recv() {
            received += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        (received >= TOTAL).then_some(())
    });
    println!("down: {:.0} Mbit/s", TOTAL as f64 * 8e-6 / begun.elapsed().as_secs_f64());
    println!("afterwards: {} KiB", guest.resident());
}
