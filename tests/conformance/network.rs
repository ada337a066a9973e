//! What a VM's network does: rules, names, published ports.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use mayfly::image::digest;
use nix::unistd::geteuid;
use serde_json::Value;

use crate::bench::Bench;
use crate::support::environment::Environment;
use crate::support::greeting::{self, HEARD};
use crate::support::live::Live;
use crate::support::processes::{eventually, lives};

/// Answers every connection to TCP port 80 and every datagram to UDP port 53 with what was sent, in capital letters.
const SERVERS: &str = r#"
    use IO::Socket::INET;
    $| = 1;
    my $tcp = IO::Socket::INET->new(LocalPort => 80, Listen => 8, ReuseAddr => 1) or die "tcp: $!";
    my $udp = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die "udp: $!";
    if (fork) {
        print "ready\n";
        while (my $client = $tcp->accept) { my $line = <$client>; print $client uc $line; close $client }
    } else {
        while ($udp->recv(my $text, 1500)) { $udp->send(uc $text) }
    }
"#;

/// How long the host waits for one answer of a guest.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

pub fn a_guest_reaches_what_is_allowed_and_nothing_else(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let port = greeting::serve();
    let closed = unused_port();
    let (allow, allow_closed) = (format!("host:{port}"), format!("host:{closed}"));
    let id = env.start(&["--keep", "--mem", "256M", "--allow", &allow, "--allow", &allow_closed]);
    let bash = |line: &str| env.run(&["exec", &id, "--", "bash", "-c", line]);
    let connect = |to: &str| bash(&format!("exec 3<>/dev/tcp/{to} && echo hello >&3 && cat <&3"));
    let network = env.network(&id);
    assert_eq!((&network["mode"], &network["state"]), (&"none".into(), &"up".into()), "{network}");

    connect(&format!("192.0.0.1/{port}")).prints(HEARD);
    // By name, which is the guest's only other way to find the gateway.
    connect(&format!("host/{port}")).prints(HEARD);
    // The host's own answer.
    connect(&format!("192.0.0.1/{closed}")).is(1, "", "[..]Connection refused\n[..]");
    // What no rule allows is denied at once: a lost packet would be sent again after a second, for minutes.
    for denied in ["192.0.0.1/1", "10.1.2.3/80", "169.254.169.254/80", "127.1.2.3/80", "8.8.8.8/53"]
    {
        let answer = connect(denied);
        // The guest's own loopback answers for itself.
        let why = if denied.starts_with("127") { "Connection refused" } else { "No route to host" };
        answer.is(1, "", &format!("[..]{why}\n[..]"));
    }
    connect("nowhere.example/80").is(1, "", "[..]Name or service not known\n[..]");
    // What was denied before may be said now.
    bash("cat /sys/class/net/eth0/mtu").is(0, "65520\n", "[..]");
    env.rm(&id);
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn a_vm_that_boots_has_its_network(bench: &Bench) {
    if bench.skips("a process of the host does not boot") {
        return;
    }
    let port = greeting::serve();
    let allow = format!("host:{port}");
    let flags = ["run", "--cold", "--mem", "256M", "--allow", &allow, "--", "bash", "-c"];
    bench.env.run(&[&flags[..], &[&greeting::ask(port)]].concat()).prints(HEARD);
}

/// Firecracker's VMs use the other driver. The VM of this test is one in which they run.
#[test]
fn a_full_kernel_has_the_drivers_of_both_interfaces() {
    let env = Environment::qemu_with("debian-kvm");
    let port = greeting::serve();
    let allow = format!("host:{port}");
    let script = format!("modprobe tun && test -c /dev/net/tun && {}", greeting::ask(port));
    let flags = ["run", "--cold", "-p", "debian-kvm", "--mem", "512M", "--allow", &allow, "-c"];
    env.run(&[&flags[..], &[&script]].concat()).prints(HEARD);
}

pub fn published_ports_lead_into_the_guest_after_every_start(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let id = env.create(&["--keep", "--mem", "256M", "--publish", "0:80", "--publish", "0:53/udp"]);
    for _ in 0..2 {
        // It names the published ports on standard error.
        env.run(&["start", &id]).is(0, &format!("{id}\n"), "[..]");
        let helper = env.network_helper(&id);
        let servers = start_servers(bench, &id);
        let network = env.network(&id);
        assert_eq!(ask_tcp(host_port(&network, "tcp"), "one\n"), "ONE\n");
        assert_eq!(ask_tcp(host_port(&network, "tcp"), "two\n"), "TWO\n");
        assert_eq!(ask_udp(host_port(&network, "udp"), "datagram"), "DATAGRAM");
        assert!(lives(helper));
        env.run(&["stop", &id]).is(0, &format!("{id}\n"), "");
        drop(servers);
        eventually("the helper's end", || !lives(helper));
        assert_eq!(env.network(&id)["state"], "none");
    }
    env.run(&["start", &id]).is(0, &format!("{id}\n"), "[..]");
    let helper = env.network_helper(&id);
    env.rm(&id);
    assert!(!lives(helper), "rm returned before the helper was gone");
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn a_port_that_cannot_be_had_is_an_error_with_a_remedy(bench: &Bench) {
    if bench.repeats() || bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let taken_udp = UdpSocket::bind(("127.0.0.1", number)).unwrap();
    let busy = format!("127.0.0.1:{number}: another process has it\nhint: '--publish 0:80' takes");
    let away = "198.51.100.77:8080: it is not an address of this host\nhint: 'ip address' shows";
    let low = "127.0.0.1:1: ports below 1024 need privileges here\nhint: publish a higher port";
    for (port, code, said) in [
        (format!("{number}:80"), 5, format!("TCP port {busy}")),
        (format!("{number}:80/udp"), 5, format!("UDP port {busy}")),
        ("198.51.100.77:8080:80".into(), 6, format!("TCP port {away}")),
        ("1:80".into(), 6, format!("TCP port {low}")),
    ] {
        let id = env.create(&["--keep", "--mem", "256M", "--publish", &port]);
        // Root without this privilege.
        let words = ["--bounding-set=-net_bind_service", "mayfly", "start", &id];
        let answer = match (geteuid().is_root(), port.starts_with("1:")) {
            (true, true) => env.run_client("setpriv", &words),
            _ => env.run(&["start", &id]),
        };
        assert_eq!(answer.code(), code, "{answer}");
        assert!(answer.stderr().contains(&format!("cannot publish {said}")), "{answer}");
        assert_eq!(env.status(&id)["state"], "created");
        env.rm(&id);
    }
    drop((taken, taken_udp));
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn a_guest_that_misuses_its_interface_keeps_its_agent(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let port = greeting::serve();
    let id = env.start(&["--keep", "--mem", "256M", "--allow", &format!("host:{port}")]);
    let bash = |line: &str| env.run(&["exec", &id, "--", "bash", "-c", line]);
    let hello = greeting::ask(port);
    // Packets that are longer than any that the line may carry.
    let oversized = r#"
        use IO::Socket::INET;
        my $socket = IO::Socket::INET->new(PeerAddr => "192.0.0.1", PeerPort => 9, Proto => "udp") or die;
        $socket->send("x" x 65507) for 1..20;
    "#;
    bash(&format!("ip link set eth0 mtu 65535 && perl -e '{oversized}'")).is(0, "", "[..]");
    bash(&hello).is(0, HEARD, "[..]");
    bash("ip link set eth0 down && ip link set eth0 up && ip route add default via 192.0.0.1")
        .is(0, "", "[..]");
    bash(&hello).is(0, HEARD, "[..]");
    // A network card stays, but an interface of software does not.
    let gone = bash("ip link delete eth0").code() == 0;
    assert_eq!(gone, bench.backend == "firecracker");
    let answer = bash(&hello);
    assert_eq!(answer.code() == 0, !gone, "{answer}");
    // It is back after another start.
    env.run(&["stop", &id]).is(0, &format!("{id}\n"), "");
    env.run(&["start", &id]).is(0, &format!("{id}\n"), "");
    bash(&hello).prints(HEARD);
    env.rm(&id);
}

pub fn an_image_without_drivers_is_an_error_with_a_remedy(bench: &Bench) {
    if bench.skips("a process of the host has no drivers") {
        return;
    }
    let bench = bench.apart();
    let env = &bench.env;
    forget_drivers(&env.images().join("debian-base"));
    let id = env.create(&["--keep", "--mem", "256M", "--net", "egress"]);
    for flags in [&["start", &id][..], &["start", "--cold", &id]] {
        let answer = env.run(flags);
        let message =
            "did not start: the agent failed at setting up: the image has no driver for a network";
        assert!(answer.code() == 6 && answer.stderr().contains(message), "{answer}");
        let hint = "\nhint: rebuild it: mayfly image build --force debian-base; ";
        assert!(answer.stderr().contains(hint), "{answer}");
    }
    // Without a network it does.
    env.run(&["run", "--mem", "256M", "--", "echo", "fine"]).is(0, "fine\n", "");
    env.rm(&id);
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

/// Makes an image like those of earlier versions: its list of drivers lacks those of a network.
fn forget_drivers(image: &Path) {
    let path = image.join("initrd.img");
    let mut initrd = fs::read(&path).unwrap();
    for driver in [&b"\nvirtio_net.ko\n"[..], b"\ntun.ko\n"] {
        let at = initrd.windows(driver.len()).position(|part| part == driver);
        initrd[at.expect("the list has it") + 1] = b'-';
    }
    fs::write(&path, &initrd).unwrap();
    // As in an older image, there is no seal that would tell of the change.
    let path = image.join("image.json");
    let mut info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    info.as_object_mut().unwrap().remove("seal");
    info["files"]["initrd.img"]["digest"] = digest::of_bytes(&initrd).into();
    fs::write(&path, info.to_string()).unwrap();
}

/// A port on which nothing listens.
fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start_servers(bench: &Bench, id: &str) -> Live {
    let mut servers = bench.env.live(&["exec", id, "--", "perl", "-e", SERVERS]);
    servers.says("ready");
    servers
}

fn host_port(network: &Value, protocol: &str) -> u16 {
    let published = network["publish"].as_array().expect("a list of ports");
    let port = published.iter().find(|port| port["proto"] == protocol);
    let port = port.unwrap_or_else(|| panic!("no port of {protocol} in {network}"));
    let number = port["host_port"].as_u64().unwrap() as u16;
    assert_ne!(number, 0, "{network}");
    number
}

fn ask_tcp(port: u16, line: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Datagrams can be lost, so it asks again.
fn ask_udp(port: u16, text: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(ANSWER_LIMIT / 10)).unwrap();
    for _ in 0..10 {
        socket.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 1500];
        if let Ok(count) = socket.recv(&mut buffer) {
            return String::from_utf8_lossy(&buffer[..count]).into_owned();
        }
    }
    panic!("no answer to datagrams from port {port}");
}
