//! Many connections at once, and many VMs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::streams::noise;
use crate::support::live::Live;

/// Answers each connection to port 80 with all that it sends, once it has ended its half.
const SERVER: &str = r#"
    use IO::Socket::INET;
    $| = 1; $SIG{CHLD} = "IGNORE";
    my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 64, ReuseAddr => 1) or die "tcp: $!";
    print "ready\n";
    while (my $client = $server->accept) {
        next if fork;
        my $all = ""; 1 while sysread $client, $all, 65536, length $all;
        print $client $all; exit;
    }
"#;

pub fn fifty_clients_of_a_guest_get_what_they_sent(bench: &Bench) {
    if bench.repeats() || bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let id = env.create(&["--keep", "--mem", "256M", "--publish", "0:80"]);
    env.run(&["start", &id]).is(
        0,
        &format!("{id}\n"),
        "mayfly: published 127.0.0.1:[..] -> 80/tcp\n",
    );
    let mut server = env.live(&["exec", "--keep", &id, "--", "perl", "-e", SERVER]);
    server.says("ready");
    let port = env.status(&id)["network"]["publish"][0]["host_port"].as_u64().unwrap() as u16;
    let bytes = noise(200_000);
    let clients = (0..50).map(|number| {
        let sent = bytes[number * 100..].to_vec();
        thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), sent.len(), "client {number}");
            assert_eq!(Sha256::digest(&received), Sha256::digest(&sent), "client {number}");
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    env.rm(&id);
    drop(server);
}

/// Sends a word a hundred times to a port of the host.
const CLIENT: &str = r#"
    use IO::Socket::INET;
    my ($word, $port) = @ARGV;
    my $socket = IO::Socket::INET->new(PeerAddr => "192.0.0.1", PeerPort => $port) or die "connect: $!";
    for (1..100) { print $socket "$word\n"; $socket->flush; select undef, undef, undef, 0.01 }
"#;

pub fn copies_of_a_template_hear_only_their_own_servers(bench: &Bench) {
    if bench.repeats() || bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    // All have the same addresses, and the template of one shape.
    let (sender, heard) = mpsc::channel();
    let count = bench.copies.min(8);
    let runs = (0..count).map(|number| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let sender = sender.clone();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let words: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
            sender.send((number, words)).unwrap();
        });
        let (allow, word) = (format!("host:{port}"), format!("word-{number}"));
        let args = ["run", "--mem", "256M", "--allow", &allow, "perl", "-e", CLIENT, &word, &port];
        let mut command = env.command(&args);
        command.env("MAYFLY_MAX_ACTIVE_VMS", count.to_string());
        Live::start(command)
    });
    let runs: Vec<_> = runs.collect();
    for run in runs {
        run.end().is(0, "", "[..]");
    }
    let mut seen = BTreeSet::new();
    for (number, words) in heard.iter().take(count) {
        assert_eq!(words, vec![format!("word-{number}"); 100]);
        seen.insert(number);
    }
    assert_eq!(seen.len(), count);
}
