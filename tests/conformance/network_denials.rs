//! What a guest cannot reach on the network, tried from inside.

use std::net::{IpAddr, TcpListener, UdpSocket};

use crate::bench::Bench;
use crate::support::processes::eventually;
use crate::support::special_addresses;

/// Tries a port at each address of its input over TCP and UDP. Prints what answered, and then how many were tried.
const ATTEMPTS: &str = r#"
    use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6);
    my ($port, $tried) = (shift, 0);
    while (my $address = <STDIN>) {
        chomp $address;
        my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
        my $packed = inet_pton($family, $address) // die "$address";
        my $to = $family == AF_INET ? pack_sockaddr_in($port, $packed) : pack_sockaddr_in6($port, $packed);
        for my $kind (SOCK_STREAM, SOCK_DGRAM) {
            socket my $socket, $family, $kind, 0 or die "socket: $!";
            my $ok = connect $socket, $to;
            next if !$ok && $kind == SOCK_DGRAM;
            if ($kind == SOCK_DGRAM) { send $socket, "data", 0; next }
            print "$address answers\n" if $ok;
        }
        $tried++;
    }
    print "tried $tried\n";
"#;

pub fn no_special_address_is_reached_in_any_encoding(bench: &Bench) {
    if bench.repeats() || bench.skips("a process of the host has the host's network") {
        return;
    }
    // What is really there would answer if it were reached.
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = UdpSocket::bind(("::", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut all = special_addresses::all();
    all.extend(own_address());
    let input: String = all.iter().map(|address| format!("{address}\n")).collect();

    let env = &bench.env;
    for flags in [["--net", "egress"], ["--allow", "name.example"]] {
        let id = env.start(&[&["--keep", "--mem", "256M"], &flags[..]].concat());
        // An attempt that is not answered takes two minutes.
        let port = port.to_string();
        let args = ["exec", "-i", "--timeout", "200s", &id, "--", "perl", "-e", ATTEMPTS, &port];
        let answer = env.feed(&args, input.as_bytes());
        answer.is(0, &format!("tried {}\n", all.len()), "[..]");
        // The number is written once a second.
        eventually("the number of denials", || {
            env.status(&id)["network"]["denied"].as_u64().unwrap() >= all.len() as u64
        });
        env.rm(&id);
    }
    assert!(listener.accept().is_err(), "the host's TCP port was reached");
    assert!(socket.recv(&mut [0; 4]).is_err(), "the host's UDP port was reached");
}

/// An address of this host on a network, if it has one. Nothing is sent to find it out.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().unwrap().ip())
}
