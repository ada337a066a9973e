//! How much a guest can make its helper use.

use std::io::Write;
use std::net::TcpStream;

use smoltcp::socket::tcp::State;

use super::helper::Helper;
use super::{echo, server};

/// The most connections.
const MOST: usize = 1024;

fn flood(mut stream: TcpStream) {
    let block = [7; 64 << 10];
    while stream.write_all(&block).is_ok() {}
}

#[test]
fn a_thousand_connections_fit_and_more_are_refused() {
    // Each side of a connection is a descriptor of this process.
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let address = server(flood);
    let mut guest = Helper::with_rules(&["127.0.0.1"]);
    let other = server(echo);
    let handle = guest.connect(other);
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
    assert!(guest.resident() < 8 << 10, "{} KiB when idle", guest.resident());
    guest.sockets.remove(handle);
    let all: Vec<_> = (0..MOST + 50).map(|_| guest.dial(address, 2048)).collect();
    let open = guest.until(|guest| {
        let states: Vec<State> = all.iter().map(|handle| guest.tcp(*handle).state()).collect();
        let undecided = states.contains(&State::SynSent);
        (!undecided).then(|| states.iter().filter(|state| **state == State::Established).count())
    });
    // The one before may still be there.
    assert!((MOST - 1..=MOST).contains(&open), "{open}");
    // Nothing is read, so that all buffers are full.
    let mut full = 0;
    for _ in 0..200 {
        let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
        guest.until(|_| (std::time::Instant::now() > until).then_some(()));
        let resident = guest.resident();
        if resident == full {
            break;
        }
        full = resident;
    }
    println!("{full} KiB with {MOST} connections");
    assert!(full < 80 << 10, "{full} KiB with {MOST} connections");
    // When they are gone, there is room again.
    for handle in &all {
        guest.tcp(*handle).abort();
    }
    guest.until(|guest| all.iter().all(|it| guest.tcp(*it).state() == State::Closed).then_some(()));
    let handle = guest.connect(other);
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
}

#[test]
fn a_flood_of_datagrams_and_questions_costs_no_memory() {
    let mut guest = Helper::with_rules(&["127.0.0.1", "*.example"]);
    let handle = guest.datagrams(5000);
    let names: Vec<Vec<u8>> = (0..2000)
        .map(|number| {
            let kind = simple_dns::QTYPE::TYPE(simple_dns::TYPE::A);
            mayfly::network::dns_message::query(&format!("n{number}.example"), kind, number)
        })
        .collect();
    for (number, name) in names.iter().enumerate() {
        let port = 10_000 + number as u16;
        guest.send(handle, ([127, 0, 0, 1], port), b"x");
        guest.send(handle, ([192, 0, 0, 1], 53), name);
        guest.until(|guest| (guest.udp(handle).send_queue() == 0).then_some(()));
        while guest.udp(handle).recv().is_ok() {}
    }
    assert!(guest.resident() < 10 << 10, "{} KiB", guest.resident());
}
