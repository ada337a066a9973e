//! Names that a guest looks up, which a resolver of this test knows.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use nix::unistd::geteuid;

use crate::bench::Bench;
use crate::support::answer::Answer;
use crate::support::greeting::{self, HEARD};
use crate::support::resolver::{FakeResolver, Known};

/// The longest name.
const LONGEST: &str = "\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.\
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.\
    ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc.\
    ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

/// What the host's resolver knows.
const KNOWN: Known<'static> = &[
    ("web.example", &["127.0.0.1"]),
    ("six.example", &["2001:db8::6"]),
    ("both.example", &["9.9.9.9", "2620:fe::9"]),
    ("alias.example", &["middle.example"]),
    ("middle.example", &["web.example"]),
    ("a.b.wild.example", &["127.0.0.1"]),
    ("intranet.corp.example", &["127.0.0.1"]),
    ("under_score.example", &["127.0.0.1"]),
    ("xn--mnchen-3ya.example", &["127.0.0.1"]),
    (LONGEST, &["127.0.0.1"]),
    ("_https._tcp.web.example", &[]),
    ("secret.evil.example", &["127.0.0.1"]),
    ("_https._tcp.evil.example", &[]),
];

/// Connects to each name of its arguments after the port, through the C library, and prints what it hears.
const CONNECT: &str = r#"
    port=$1; shift
    for name; do exec 3<>"/dev/tcp/$name/$port" && echo hello >&3 && cat <&3; done
"#;

/// Asks each question of its input, a type and a name. Prints the code of the answer and what was found; addresses of
/// mayfly's own are all the same.
const ASK: &str = r#"
    use IO::Socket::INET; use Socket qw(AF_INET6 inet_ntop);
    my %types = (A => 1, AAAA => 28, TXT => 16, SRV => 33, HTTPS => 65);
    my %names = (5 => "alias", 16 => "text", 33 => "service");
    while (my $line = <STDIN>) {
        my ($type, $name) = split " ", $line;
        my $labels = join "", map { pack "C/a*", $_ } split /\./, $name;
        my $question = pack("n6", 7, 0x100, 1, 0, 0, 0) . $labels . pack("Cnn", 0, $types{$type}, 1);
        my $socket = IO::Socket::INET->new(PeerAddr => "192.0.0.1", PeerPort => 53, Proto => "udp") or die;
        $socket->send($question);
        alarm 30;
        $socket->recv(my $answer, 4096);
        my ($id, $flags, $questions, $answers) = unpack "n4", $answer;
        my ($at, @found) = length $question;
        for (1 .. $answers) {
            while (my $label = unpack "C", substr $answer, $at, 1) {
                if ($label >= 192) { $at++; last }
                $at += $label + 1;
            }
            my ($kind, $class, $ttl, $length) = unpack "nnNn", substr $answer, ++$at, 10;
            my $data = substr $answer, $at + 10, $length;
            $at += 10 + $length;
            push @found, $kind == 1 ? join(".", unpack "C4", $data)
                : $kind == 28 ? inet_ntop(AF_INET6, $data) : $names{$kind};
        }
        s/^198\.1[89]\..*/own/ for @found;
        print join(" ", $type, $name, $flags & 15, @found), "\n";
    }
"#;

pub fn a_guest_looks_up_names_as_its_rules_say(bench: &Bench) {
    if bench.repeats() || bench.skips("a process of the host has the host's resolver") {
        return;
    }
    if !geteuid().is_root() {
        eprintln!("skipped: only root can put another file in the place of /etc/resolv.conf");
        return;
    }
    let resolver = resolver();
    let text = format!("search corp.example\nnameserver {}\n", resolver.address.ip());
    let resolvers = bench.env.file("resolv.conf", &text);
    with_names_allowed(bench, &resolver, &resolvers);
    with_egress(bench, &resolver, &resolvers);
    assert_eq!(bench.env.leftovers(), Vec::<String>::new());
}

fn with_names_allowed(bench: &Bench, resolver: &FakeResolver, resolvers: &Path) {
    let env = &bench.env;
    let port = greeting::serve().to_string();
    let connected = [
        "web.example",
        "alias.example",
        "a.b.wild.example",
        "intranet",
        "under_score.example",
        "xn--mnchen-3ya.example",
        LONGEST,
    ];
    let mut flags =
        vec!["create", "--name", "box", "--keep", "--mem", "256M", "--allow", "127.0.0.1"];
    let allowed = connected.iter().filter(|name| **name != "a.b.wild.example");
    flags.extend(allowed.flat_map(|name| ["--allow", name]));
    flags.extend(["--allow", "*.wild.example", "--allow", "six.example"]);
    let id = env.run(&flags).line();
    start(bench, &id, resolvers).prints(&format!("{id}\n"));

    let script = ["exec", &id, "--", "bash", "-ec", CONNECT, "sh", &port];
    let heard = HEARD.repeat(connected.len());
    env.run(&[&script[..], &connected].concat()).prints(&heard);
    let asked = [
        "web.example",
        "alias.example",
        "a.b.wild.example",
        "intranet.corp.example",
        "under_score.example",
        "xn--mnchen-3ya.example",
        LONGEST,
    ];
    assert_eq!(resolver.take_asked(), asked.map(|name| format!("udp TYPE(A) {name}")));

    // Each with the code of the answer: 3 if there is no such name.
    let answers = [
        ("A six.example", "0 own"),
        ("AAAA six.example", "0"),
        ("AAAA web.example", "0"),
        ("HTTPS web.example", "0"),
        ("TXT web.example", "0 text"),
        ("SRV _https._tcp.web.example", "0 service"),
        ("A box", "0 192.0.0.2"),
        ("A localhost", "0 127.0.0.1"),
        ("A host", "0 192.0.0.1"),
        // Nobody hears of these.
        ("A secret.evil.example", "3"),
        ("AAAA secret.evil.example", "3"),
        ("TXT c2VjcmV0.evil.example", "3"),
        ("SRV _https._tcp.evil.example", "3"),
        ("A wild.example", "3"),
        ("A sub.web.example", "3"),
    ];
    assert_eq!(ask(bench, &id, &answers), said(&answers));
    let relayed = ["A) six", "AAAA) six", "TXT) web", "SRV) _https._tcp.web"]
        .map(|it| format!("udp TYPE({it}.example"));
    assert_eq!(resolver.take_asked(), relayed);
    // What programs are told. As on other Debian systems, /etc/hosts knows the VM's own name.
    let getent = "getent hosts secret.evil.example; echo $?; getent ahostsv4 box | head -n 1";
    env.run(&["exec", &id, "-c", getent]).is(0, "2\n127.0.1.1 [..]STREAM box\n", "[..]");
    assert_eq!(resolver.take_asked(), [""; 0]);
    env.rm(&id);
}

fn with_egress(bench: &Bench, resolver: &FakeResolver, resolvers: &Path) {
    let env = &bench.env;
    let id = env.create(&["--keep", "--mem", "256M", "--net", "egress"]);
    start(bench, &id, resolvers).prints(&format!("{id}\n"));
    let answers = [
        ("A both.example", "0 9.9.9.9"),
        ("AAAA both.example", "0 2620:fe::9"),
        ("A alias.example", "0 alias alias 127.0.0.1"),
        ("TXT web.example", "0 text"),
        ("SRV _https._tcp.web.example", "0 service"),
        ("A no.such.example", "3"),
    ];
    assert_eq!(ask(bench, &id, &answers), said(&answers));
    assert_eq!(resolver.take_asked().len(), answers.len());
    env.rm(&id);
}

/// A resolver at port 53 of an address of the loopback network.
fn resolver() -> FakeResolver {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let addresses = (0..=u8::MAX).map(|more| Ipv4Addr::new(127, 1 + a, b.wrapping_add(more), c));
    let mut started = addresses.filter_map(|address| {
        FakeResolver::start_at(SocketAddr::new(address.into(), 53), KNOWN).ok()
    });
    started.next().expect("one of 256 addresses is free")
}

/// Starts a VM whose helper finds another file in the place of `/etc/resolv.conf`. No other process does.
fn start(bench: &Bench, id: &str, resolvers: &Path) -> Answer {
    let script = format!(
        "mount --bind '{}' /etc/resolv.conf && exec mayfly start {id}",
        fs::canonicalize(resolvers).unwrap().display()
    );
    let flags = ["--mount", "--propagation", "private", "sh", "-c", &script];
    bench.env.run_client("unshare", &flags)
}

/// What the guest prints about these questions.
fn ask(bench: &Bench, id: &str, questions: &[(&str, &str)]) -> String {
    let input: String = questions.iter().map(|(question, _)| format!("{question}\n")).collect();
    let answer = bench.env.feed(&["exec", "-i", id, "--", "perl", "-e", ASK], input.as_bytes());
    assert_eq!(answer.code(), 0, "{answer}");
    answer.stdout().to_owned()
}

/// What it should print.
fn said(answers: &[(&str, &str)]) -> String {
    answers.iter().map(|(question, answer)| format!("{question} {answer}\n")).collect()
}
