//! Names, which a resolver of these tests knows.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use mayfly::model::LinkKind;
use mayfly::model::NetworkMode;
use mayfly::network::dns_message::{AddressAnswer, addresses, query};
use mayfly::network::order::NetworkOrder;
use simple_dns::rdata::RData;
use simple_dns::{Packet, QTYPE, RCODE, TYPE};

use super::helper::{Helper, order};
use super::{echo, server};
use crate::support::resolver::FakeResolver;
use crate::support::special_addresses;

const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 0, 1)), 53);

/// A guest whose resolver knows some names.
fn guest(
    resolver: &FakeResolver,
    rules: &[&str],
    change: impl FnOnce(&mut NetworkOrder),
) -> Helper {
    let mut order = order(LinkKind::Ip, rules);
    order.resolvers = vec![resolver.address];
    order.hostname = Some("box".parse().unwrap());
    change(&mut order);
    Helper::start(order, Vec::new())
}

/// What the guest is told about the addresses of a name.
pub fn look_up(guest: &mut Helper, name: &str, kind: TYPE) -> AddressAnswer {
    let handle = guest.datagrams(5300);
    let answer = guest.ask(handle, GATEWAY, &query(name, QTYPE::TYPE(kind), 77));
    guest.sockets.remove(handle);
    addresses(&answer, &name.parse().unwrap(), kind, 77).unwrap()
}

/// The only address of a name.
pub fn address_of(guest: &mut Helper, name: &str) -> IpAddr {
    match look_up(guest, name, TYPE::A) {
        AddressAnswer::Found(all, _) if all.len() == 1 => all[0],
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn an_allowed_name_has_an_address_of_our_own_that_leads_to_it() {
    let web = server(echo);
    let resolver = FakeResolver::start(&[("web.example", &["127.0.0.1"])]);
    let port = web.port();
    let rules = [format!("web.example:{port}"), "127.0.0.1".into()];
    let mut guest = guest(&resolver, &[&rules[0], &rules[1]], |_| {});
    let own = address_of(&mut guest, "web.example");
    assert!(
        matches!(own, IpAddr::V4(own) if own.octets()[..2] == [198, 18] || own.octets()[..2] == [198, 19])
    );
    let handle = guest.connect((own, port).into());
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
    // The port is part of the rule.
    assert!(!guest.is_connected((own, port ^ 1).into()));
    let expected =
        format!("Tcp web.example:{0} \"not_allowed\" Some(\"web.example:{0}\")", port ^ 1);
    assert_eq!(guest.denied(), [expected]);
    let none = look_up(&mut guest, "web.example", TYPE::AAAA);
    assert!(matches!(none, AddressAnswer::Found(all, _) if all.is_empty()));
    assert_eq!(resolver.asked(), ["udp TYPE(A) web.example"]);
}

#[test]
fn nothing_is_asked_for_a_name_without_a_rule() {
    let resolver = FakeResolver::start(&[("secret.evil.example", &["127.0.0.1"])]);
    let mut guest = guest(&resolver, &["web.example", "*.wild.example"], |_| {});
    for kind in [TYPE::A, TYPE::AAAA, TYPE::TXT, TYPE::SRV, TYPE::MX] {
        for name in ["secret.evil.example", "a.web.example", "wild.example"] {
            let answer = look_up(&mut guest, name, kind);
            assert_eq!(answer, AddressAnswer::NoSuchName, "{name} {kind:?}");
        }
    }
    assert_eq!(resolver.asked(), [""; 0]);
    let expected = "Name secret.evil.example \"not_allowed\" Some(\"secret.evil.example\")";
    assert_eq!(guest.denied()[0], expected);
    assert_eq!(guest.denied().len(), 3);
}

#[test]
fn a_name_that_leads_to_this_host_is_not_reached() {
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let port = inside.local_addr().unwrap().port();
    let all: &[&str] = &["127.0.0.1", "10.0.0.1", "169.254.169.254"];
    let resolver = FakeResolver::start(&[("rebound.example", all)]);
    let mut guest = guest(&resolver, &["rebound.example"], |_| {});
    let own = address_of(&mut guest, "rebound.example");
    assert!(!guest.is_connected((own, port).into()));
    assert_eq!(guest.line.unreachable, [(3, 13)]);
    assert_eq!(guest.denied(), [format!("Tcp rebound.example:{port} \"name_of_denied\" None")]);
    assert!(inside.accept().is_err());
    let handle = guest.datagrams(5300);
    guest.send(handle, SocketAddr::new(own, port + 1), b"over UDP");
    guest.until(|guest| (guest.line.unreachable.len() == 2).then_some(()));
    let denied = format!("Udp rebound.example:{} \"name_of_denied\" None", port + 1);
    assert_eq!(guest.denied()[1], denied);
}

#[test]
fn a_datagram_waits_until_its_name_is_looked_up() {
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..count], from).unwrap();
        }
    });
    let resolver = FakeResolver::start(&[("time.example", &["127.0.0.1"])]);
    let rules = ["time.example", "127.0.0.0/8"];
    let mut before = guest(&resolver, &rules, |_| {});
    let own = address_of(&mut before, "time.example");
    // A helper that takes over knows the name's address of our own, but not its real one.
    let mut after = guest(&resolver, &rules, |_| {});
    let handle = after.datagrams(5300);
    assert_eq!(after.ask(handle, (own, port).into(), b"what time is it?"), b"what time is it?");
    // One that leads nowhere is not looked up for ever.
    let nowhere = FakeResolver::start(&[]);
    let mut guest = guest(&nowhere, &rules, |_| {});
    let handle = guest.datagrams(5400);
    guest.send(handle, SocketAddr::new(own, port), b"what time is it?");
    guest.until(|_| (!nowhere.asked().is_empty()).then_some(()));
    assert_eq!(
        look_up(&mut guest, "host", TYPE::A),
        AddressAnswer::Found(vec![GATEWAY.ip()], Duration::from_secs(60))
    );
    assert!(nowhere.asked().len() <= 2, "{:?}", nowhere.asked());
}

/// What a message of the guest is answered.
fn ask(guest: &mut Helper, message: &[u8]) -> Vec<u8> {
    let handle = guest.datagrams(5500);
    let answer = guest.ask(handle, GATEWAY, message);
    guest.sockets.remove(handle);
    answer
}

#[test]
fn an_allowed_name_leads_to_no_special_address() {
    let all: Vec<String> = special_addresses::all().iter().map(IpAddr::to_string).collect();
    let names: Vec<String> = (0..all.len()).map(|place| format!("n{place}.example")).collect();
    let lists: Vec<[&str; 1]> = all.iter().map(|text| [text.as_str()]).collect();
    let known: Vec<(&str, &[&str])> =
        names.iter().zip(&lists).map(|(name, list)| (name.as_str(), &list[..])).collect();
    let resolver = FakeResolver::start(&known);
    let inside = TcpListener::bind("[::]:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let port = inside.local_addr().unwrap().port();
    let socket = UdpSocket::bind(("::", port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut guest = guest(&resolver, &["*.example"], |_| {});
    let handle = guest.datagrams(5400);
    for (name, address) in names.iter().zip(&all) {
        let own = SocketAddr::new(address_of(&mut guest, name), port);
        assert!(!guest.is_connected(own), "{address}");
        assert_eq!(guest.line.unreachable.pop(), Some((3, 13)), "{address}");
        guest.send(handle, own, b"data");
        let told = guest.until(|guest| guest.line.unreachable.pop());
        assert_eq!(told, (3, 13), "{address}");
    }
    assert!(inside.accept().is_err());
    assert!(socket.recv(&mut [0; 4]).is_err());
}

#[test]
fn addresses_of_our_own_have_names() {
    let resolver = FakeResolver::start(&[("web.example", &["127.0.0.1"])]);
    let mut guest = guest(&resolver, &["web.example"], |_| {});
    let IpAddr::V4(own) = address_of(&mut guest, "web.example") else { panic!("no IPv4") };
    let [a, b, c, d] = own.octets();
    let gateway = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.7.0.0.c.6.6.6.9.7.1.6.d.6.d.f.ip6.arpa";
    for (name, expected) in [
        (&*format!("{d}.{c}.{b}.{a}.in-addr.arpa"), "web.example"),
        ("1.0.0.192.IN-ADDR.arpa", "host"),
        ("2.0.0.192.in-addr.arpa", "box"),
        ("1.0.0.127.in-addr.arpa", "localhost"),
        (gateway, "host"),
    ] {
        let answer = ask(&mut guest, &query(name, QTYPE::TYPE(TYPE::PTR), 77));
        let packet = Packet::parse(&answer).unwrap();
        let RData::PTR(found) = &packet.answers[0].rdata else { panic!("{name}: {packet:?}") };
        assert_eq!(found.0.to_string(), expected, "{name}");
        assert_eq!(packet.questions[0].qname.to_string(), name);
    }
    assert_eq!(resolver.asked(), ["udp TYPE(A) web.example"]);
}

#[test]
fn unusual_questions_are_refused_at_once() {
    let resolver = FakeResolver::start(&[("web.example", &["127.0.0.1"])]);
    for mode in [NetworkMode::None, NetworkMode::Egress] {
        let mut guest = guest(&resolver, &["web.example"], |order| order.mode = mode);
        let usual = query("web.example", QTYPE::TYPE(TYPE::A), 77);
        let mut two = usual.clone();
        two[5] = 2;
        two.extend_from_slice(&usual[12..]);
        let mut chaos = usual.clone();
        *chaos.last_mut().unwrap() = 3;
        let mut notify = usual.clone();
        notify[2] |= 4 << 3;
        let any = query("web.example", QTYPE::ANY, 77);
        for message in [&two, &chaos, &notify, &any, &usual[..12].to_vec()] {
            let answer = ask(&mut guest, message);
            let refused = (answer[..2] == [0, 77], answer[2] & 0xf8, answer[3] & 15);
            assert_eq!(refused, (true, 0x80 | message[2] & 0x78, 5), "{message:?}");
        }
    }
    assert_eq!(resolver.asked(), [""; 0]);
}

#[test]
fn programs_that_use_all_of_dns_are_answered() {
    let resolver =
        FakeResolver::start(&[("web.example", &["127.0.0.1"]), ("six.example", &["::1"])]);
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let rules = ["web.example", "six.example", &long, "xn--mnchen-3ya.example"];
    let mut guest = guest(&resolver, &rules, |_| {});
    // With EDNS0: its record says which size of answers the guest takes.
    let mut message = query("wEb.eXample", QTYPE::TYPE(TYPE::A), 77);
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let answer = ask(&mut guest, &message);
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!(packet.questions[0].qname.to_string(), "wEb.eXample");
    assert_eq!(packet.answers[0].name.to_string(), "wEb.eXample");
    // No data of this kind, rather than no such name: the program goes on with the other kind.
    for name in ["web.example", "six.example"] {
        for kind in [TYPE::AAAA, TYPE::HTTPS, TYPE::SVCB, TYPE::CNAME] {
            let answer = look_up(&mut guest, name, kind);
            assert!(matches!(answer, AddressAnswer::Found(all, _) if all.is_empty()), "{kind:?}");
        }
    }
    for name in [&*long, "XN--mnchen-3ya.example"] {
        assert_eq!(look_up(&mut guest, name, TYPE::A), AddressAnswer::NoSuchName, "{name}");
    }
    assert!(resolver.asked().contains(&format!("udp TYPE(A) {long}")));
    assert!(resolver.asked().iter().all(|asked| !asked.contains("HTTPS")));
    assert_eq!(guest.denied(), [""; 0]);
}

#[test]
fn the_name_of_an_address_is_no_denial() {
    let resolver = FakeResolver::start(&[]);
    let mut guest = guest(&resolver, &["web.example"], |_| {});
    let name = "1.0.0.10.in-addr.arpa";
    let handle = guest.datagrams(5300);
    let answer = guest.ask(handle, GATEWAY, &query(name, QTYPE::TYPE(TYPE::PTR), 77));
    assert_eq!(Packet::parse(&answer).unwrap().rcode(), RCODE::NameError);
    assert_eq!(guest.denied(), [""; 0]);
    assert_eq!(resolver.asked(), [""; 0]);
}

#[test]
fn wildcards_search_domains_and_services_are_names_too() {
    let resolver = FakeResolver::start(&[
        ("a.b.wild.example", &["127.0.0.1"]),
        ("intranet.corp.example", &["127.0.0.1"]),
        ("_https._tcp.web.example", &[]),
        ("six.example", &["::1"]),
    ]);
    let rules = ["*.wild.example", "intranet", "web.example", "six.example"];
    let mut guest = guest(&resolver, &rules, |order| {
        order.search = vec!["corp.example".parse().unwrap()];
    });
    address_of(&mut guest, "a.b.wild.example");
    address_of(&mut guest, "intranet");
    address_of(&mut guest, "six.example");
    assert_eq!(look_up(&mut guest, "b.wild.example", TYPE::A), AddressAnswer::NoSuchName);
    let handle = guest.datagrams(5400);
    let text = query("_HTTPS._tcp.web.example", QTYPE::TYPE(TYPE::TXT), 78);
    let answer = guest.ask(handle, GATEWAY, &text);
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!(packet.questions[0].qname.to_string(), "_HTTPS._tcp.web.example");
    assert_eq!(packet.answers.len(), 1);
    assert_eq!(
        resolver.asked(),
        [
            "udp TYPE(A) a.b.wild.example",
            "udp TYPE(A) intranet.corp.example",
            "udp TYPE(A) six.example",
            "udp TYPE(AAAA) six.example",
            "udp TYPE(A) b.wild.example",
            "udp TYPE(TXT) _https._tcp.web.example",
        ]
    );
}

#[test]
fn some_names_need_no_resolver() {
    let mut guest = Helper::start(
        {
            let mut order = order(LinkKind::Ip, &["web.example"]);
            order.hostname = Some("box".parse().unwrap());
            order
        },
        Vec::new(),
    );
    for (name, address) in [("localhost", "127.0.0.1"), ("box", "192.0.0.2"), ("host", "192.0.0.1")]
    {
        assert_eq!(address_of(&mut guest, name), address.parse::<IpAddr>().unwrap());
    }
    assert_eq!(look_up(&mut guest, "web.example", TYPE::A), AddressAnswer::Failed);
    assert_eq!(guest.denied(), [""; 0]);
}

#[test]
fn names_are_looked_up_over_tcp_too() {
    let many: Vec<String> = (1..=5).map(|last| format!("127.0.0.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let resolver = FakeResolver::start(&[("many.example", &many)]);
    let mut guest = guest(&resolver, &["many.example"], |_| {});
    let handle = guest.connect(GATEWAY);
    let mut sent = Vec::new();
    for (id, name, kind) in [
        (1, "many.example", TYPE::A),
        (2, "many.example", TYPE::TXT),
        (3, "secret.evil.example", TYPE::TXT),
    ] {
        let message = query(name, QTYPE::TYPE(kind), id);
        sent.extend_from_slice(&(message.len() as u16).to_be_bytes());
        sent.extend_from_slice(&message);
    }
    let received = guest.exchange(handle, &sent);
    let mut answers = HashMap::new();
    let mut rest = &received[..];
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (message, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        let packet = Packet::parse(message).unwrap();
        answers.insert(packet.id(), (packet.rcode(), packet.answers.len()));
        rest = after;
    }
    let expected = HashMap::from([
        (1, (RCODE::NoError, 1)),
        (2, (RCODE::NoError, 1)),
        (3, (RCODE::NameError, 0)),
    ]);
    assert_eq!(answers, expected);
    let mut asked = resolver.asked();
    asked.sort();
    let expected =
        ["tcp TYPE(A) many.example", "tcp TYPE(TXT) many.example", "udp TYPE(A) many.example"];
    assert_eq!(asked, expected);
}

#[test]
fn with_egress_every_name_is_asked_for_and_answered_as_it_is() {
    let resolver = FakeResolver::start(&[("any.example", &["1.1.1.1"])]);
    let mut guest = guest(&resolver, &[], |order| order.mode = NetworkMode::Egress);
    assert_eq!(address_of(&mut guest, "any.example"), IpAddr::from([1, 1, 1, 1]));
    assert_eq!(look_up(&mut guest, "no.example", TYPE::A), AddressAnswer::NoSuchName);
}
