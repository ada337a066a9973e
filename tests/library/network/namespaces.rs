//! Egress, in namespaces of their own: a host with a network around it, and an internet behind a router.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use mayfly::model::LinkKind;
use mayfly::model::NetworkMode;
use mayfly::network::dns_message::AddressAnswer;
use nix::unistd::geteuid;
use simple_dns::TYPE;

use super::echo;
use super::helper::{Helper, order};
use super::names::{address_of, look_up};
use crate::support::resolver::FakeResolver;
use crate::support::skip::skipped;

/// The internet has an address that looks public, and one of a metadata service. The last two are the router's.
const INTERNET: [&str; 4] = ["9.9.9.9", "169.254.169.254", "172.30.0.2", "9.8.7.2"];
/// The same over IPv6.
const INTERNET_V6: [&str; 4] = ["2620:fe::9", "fd00:ec2::254", "fd33::2", "2620:9:8:7::2"];
const INTERNET_SETUP: &str = "ip link set lo up && ip addr add 9.9.9.9/32 dev lo && \
     ip addr add 169.254.169.254/32 dev lo && ip addr add 2620:fe::9/128 dev lo && \
     ip addr add fd00:ec2::254/128 dev lo && exec \"$@\"";
const HOST_SETUP: &str = "ip link set lo up && ip link add v0 type veth peer name v1 netns $INTERNET && \
     ip addr add 172.30.0.1/24 dev v0 && ip addr add 9.8.7.1/24 dev v0 && \
     ip addr add fd33::1/64 dev v0 nodad && ip addr add 2620:9:8:7::1/64 dev v0 nodad && ip link set v0 up && \
     nsenter -t $INTERNET -n sh -c 'ip addr add 172.30.0.2/24 dev v1 && \
     ip addr add 9.8.7.2/24 dev v1 && ip addr add fd33::2/64 dev v1 nodad && \
     ip addr add 2620:9:8:7::2/64 dev v1 nodad && ip link set v1 up' && \
     ip route add default via 172.30.0.2 && ip -6 route add default via fd33::2 && exec \"$@\"";

/// Runs a test of this file in a network namespace of its own, after `setup`.
fn namespace(setup: &str, test: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", setup, "sh"]).arg(std::env::current_exe().unwrap()).args([
        "--exact",
        &format!("network::namespaces::{test}"),
        "--ignored",
        "--nocapture",
    ]);
    command
}

#[test]
fn egress_reaches_the_internet_and_nothing_nearer() {
    if !geteuid().is_root() {
        return skipped("only root can make network namespaces");
    }
    let mut internet = namespace(INTERNET_SETUP, "internet")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(internet.stdout.take().unwrap()).lines();
    let is_ready = lines.any(|line| line.unwrap().ends_with("internet is ready"));
    let output = is_ready.then(|| {
        namespace(HOST_SETUP, "host").env("INTERNET", internet.id().to_string()).output().unwrap()
    });
    drop(internet.stdin.take());
    internet.wait().unwrap();
    let Some(output) = output else { return skipped("network namespaces cannot be made here") };
    assert!(output.status.success(), "{output:?}");
}

/// Serves on all addresses until its standard input ends. Part of the test above.
#[test]
#[ignore = "the test above runs it in a namespace"]
fn internet() {
    let listener = TcpListener::bind("[::]:7").unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
    println!("\ninternet is ready");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Part of the test above.
#[test]
#[ignore = "the test above runs it in a namespace"]
fn host() {
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 7);
    // This host reaches them all.
    for address in INTERNET.into_iter().chain(INTERNET_V6) {
        TcpStream::connect(at(address)).unwrap();
    }
    let _listener = TcpListener::bind("[::]:7").unwrap();
    let with = |rules: &[&str]| {
        let mut order = order(LinkKind::Ip, rules);
        order.mode = NetworkMode::Egress;
        Helper::start(order, Vec::new())
    };
    let mut guest = with(&[]);
    let handle = guest.connect(at("9.9.9.9"));
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
    for address in ["169.254.169.254", "172.30.0.2", "9.8.7.2", "9.8.7.1", "172.30.0.1"] {
        assert!(!guest.is_connected(at(address)), "{address}");
    }
    assert_eq!(guest.line.unreachable, [(3, 13); 5]);
    assert_eq!(
        guest.denied(),
        [
            r#"Tcp 169.254.169.254:7 {"special":"link_local"} Some("169.254.169.254:7")"#,
            r#"Tcp 172.30.0.2:7 {"special":"private"} Some("172.30.0.2:7")"#,
            r#"Tcp 9.8.7.2:7 "next_door" Some("9.8.7.2:7")"#,
            r#"Tcp 9.8.7.1:7 "own_address" Some("9.8.7.1:7")"#,
            r#"Tcp 172.30.0.1:7 {"special":"private"} Some("172.30.0.1:7")"#,
        ]
    );
    let mut guest = with(&[]);
    let handle = guest.connect(at("2620:fe::9"));
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
    for address in ["fd00:ec2::254", "fd33::2", "2620:9:8:7::2", "2620:9:8:7::1", "fd33::1"] {
        assert!(!guest.is_connected(at(address)), "{address}");
    }
    assert_eq!(guest.line.unreachable, [(1, 1); 5]);
    assert_eq!(
        guest.denied(),
        [
            r#"Tcp [fd00:ec2::254]:7 {"special":"private"} Some("[fd00:ec2::254]:7")"#,
            r#"Tcp [fd33::2]:7 {"special":"private"} Some("[fd33::2]:7")"#,
            r#"Tcp [2620:9:8:7::2]:7 "next_door" Some("[2620:9:8:7::2]:7")"#,
            r#"Tcp [2620:9:8:7::1]:7 "own_address" Some("[2620:9:8:7::1]:7")"#,
            r#"Tcp [fd33::1]:7 {"special":"private"} Some("[fd33::1]:7")"#,
        ]
    );
    // A name that is allowed opens neither its address nor other names and ports there.
    let resolver =
        FakeResolver::start(&[("web.example", &["9.9.9.9"]), ("near.example", &["9.9.9.9"])]);
    let mut order = order(LinkKind::Ip, &["web.example:7"]);
    order.resolvers = vec![resolver.address];
    let mut guest = Helper::start(order, Vec::new());
    let own = address_of(&mut guest, "web.example");
    let handle = guest.connect(SocketAddr::new(own, 7));
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
    assert!(!guest.is_connected(at("9.9.9.9")));
    assert!(!guest.is_connected(SocketAddr::new(own, 8)));
    let near = look_up(&mut guest, "near.example", TYPE::A);
    assert_eq!(near, AddressAnswer::NoSuchName);
    let mut guest = with(&["172.30.0.0/24:7"]);
    let handle = guest.connect(at("172.30.0.2"));
    assert_eq!(guest.exchange(handle, b"hello"), b"hello");
}
