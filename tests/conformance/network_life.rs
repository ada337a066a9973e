//! The network helper beside its VMM, from the VM's start to its end.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::bench::Bench;
use crate::support::greeting::{self, HEARD};
use crate::support::processes::{eventually, lives, status_field};

/// Lets a server of the guest on port 80 say `guest`.
const SERVER: &str = "use IO::Socket::INET; $| = 1; $s = IO::Socket::INET->new(LocalPort => 80, Listen => 8) \
                      or die; print 'ready'; while ($c = $s->accept) { print $c 'guest'; close $c }";

/// A connection that no rule allows.
const DENIED: &str = "cat < /dev/tcp/10.0.0.1/1";

/// How long a helper may live after its VMM: it is told by the end of its line. An emulated KVM host is slow.
fn helper_grace(bench: &Bench) -> Duration {
    Duration::from_secs(if bench.backend == "firecracker" { 10 } else { 1 })
}

/// What the host reads from a published port; empty if the guest does not listen yet.
fn ask_guest(port: u16) -> String {
    let mut text = String::new();
    let connection = TcpStream::connect(("127.0.0.1", port));
    let _ = connection.and_then(|mut connection| connection.read_to_string(&mut text));
    text
}

#[track_caller]
fn kill_and_wait(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("its end", || !lives(pid));
}

pub fn a_lost_helper_is_replaced_by_the_next_command(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let port = greeting::serve();
    let allow = format!("host:{port}");
    let flags = ["--keep", "--mem", "256M", "--allow", &allow, "--publish", "0:80"];
    let id = env.create(&flags);
    assert_eq!(env.network(&id)["state"], "none");
    env.run(&["port", &id]).fails(4, "mayfly: [..]is created, not started\n[..]");
    let said = "mayfly: published 127.0.0.1:[..] -> 80/tcp\n";
    env.run(&["start", &id]).is(0, &format!("{id}\n"), said);
    let published = env.network(&id)["publish"][0]["host_port"].as_u64().unwrap() as u16;
    let address = format!("127.0.0.1:{published}\n");
    env.run(&["port", &id]).prints(&format!("80/tcp -> {address}"));
    env.run(&["port", &id, "80"]).prints(&address);
    let hint = "mayfly: [..] does not publish 80/udp\nhint: it publishes 80/tcp\n";
    env.run(&["port", &id, "80/udp"]).fails(3, hint);

    let exec = |line: &str| env.run(&["exec", &id, "--", "bash", "-c", line]);
    let mut server = env.live(&["exec", &id, "--", "perl", "-e", SERVER]);
    server.says("ready");
    exec(&greeting::ask(port)).prints(HEARD);
    assert_eq!(ask_guest(published), "guest");
    // Denied.
    exec(DENIED).fails(1, "[..]No route to host\n");
    // A guest on a busy host may try several times.
    let denied = || env.network(&id)["denied"].as_u64().unwrap();
    eventually("a count", || denied() >= 1);

    let first = env.network_helper(&id);
    kill_and_wait(first);
    assert_eq!(env.network(&id)["state"], "lost");
    let of_first = denied();
    let shown = env.run(&["status"]);
    assert!(shown.stdout().contains("  lost  "), "{shown}");
    assert_eq!(ask_guest(published), "");
    env.run(&["port", &id]).is(
        0,
        &format!("80/tcp -> {address}"),
        "mayfly: [..]lost its network[..]\n",
    );
    // Whatever the command is. The server was there all the time.
    exec("true").prints("");
    let second = env.network_helper(&id);
    assert_ne!(second, first);
    assert_eq!(env.network(&id)["state"], "up");
    exec(&greeting::ask(port)).prints(HEARD);
    assert_eq!(ask_guest(published), "guest");
    assert_eq!(env.network_helper(&id), second, "one is enough");
    exec(DENIED).fails(1, "[..]No route to host\n");
    eventually("the sum", || denied() > of_first);

    // Commands at the same time start one helper. Its port was taken meanwhile.
    kill_and_wait(second);
    let taken = TcpListener::bind(("127.0.0.1", published)).unwrap();
    let both = [0, 1].map(|_| env.live(&["exec", &id, "--", "bash", "-c", &greeting::ask(port)]));
    let both = both.map(|live| live.end());
    both.iter().for_each(|answer| assert_eq!((answer.code(), answer.stdout()), (0, HEARD)));
    let said: String = both.iter().map(|answer| answer.stderr()).collect();
    assert_eq!(said.matches("another process has it").count(), 1, "{said}");
    assert!(said.contains(&format!("'mayfly stop {id}'")), "{said}");
    env.run(&["port", "--json", &id]).prints("[]\n");
    drop(taken);
    server.kill();
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    assert_eq!(env.network(&id)["state"], "none");
    env.run(&["start", &id]).is(0, &format!("{id}\n"), "mayfly: published [..]\n");
    assert_eq!(env.network(&id)["publish"].as_array().unwrap().len(), 1);
    env.rm(&id);
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn a_helper_is_confined_and_ends_with_its_vm(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let id = env.start(&["--keep", "--mem", "256M", "--net", "egress"]);
    let (vmm, first) = (env.vmm(&id), env.network_helper(&id));
    for (field, expected) in [("Seccomp", "2"), ("NoNewPrivs", "1")] {
        assert_eq!(status_field(first, field), expected, "{field}");
    }
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status_field(first, set), "0000000000000000", "{set}");
    }
    // The kernel gives files of a process that cannot be dumped to root.
    let owner = fs::metadata(format!("/proc/{first}/environ")).unwrap().uid();
    assert_eq!(owner, 0, "other processes of its user can read its memory");
    let [vmm_user, user] = [vmm, first].map(|pid| status_field(pid, "Uid"));
    if geteuid().is_root() {
        assert_ne!(user, vmm_user, "what takes over the VMM has power over the helper");
        assert!(user.split_whitespace().all(|uid| uid != "0"), "{user}");
        let shown = env.run(&["inspect", "--json", &id]).json();
        assert_eq!(user.split_whitespace().next().unwrap(), shown["network_uid"].to_string());
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(namespace(first), namespace(std::process::id() as i32));
        assert_ne!(namespace(vmm), namespace(first), "the VMM has the network itself");
    }

    // Of a VMM that is killed.
    kill(Pid::from_raw(vmm), Signal::SIGKILL).unwrap();
    eventually("the VMM's end", || !lives(vmm));
    let ended = Instant::now();
    eventually("the helper's end", || !lives(first));
    assert!(ended.elapsed() < helper_grace(bench), "{:?}", ended.elapsed());
    env.run(&["start", &id]).prints(&format!("{id}\n"));

    // Of one that is stopped, though the helper hangs: it is on record. Processes are also found by their
    // environment, but not without the key, and an ordinary user cannot read that of a helper at all.
    let second = env.network_helper(&id);
    let key = env.state().join("marks.key");
    let secret = fs::read(&key).unwrap();
    for verb in ["stop", "rm"] {
        let pid = env.network_helper(&id);
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        fs::remove_file(&key).unwrap();
        env.run(&[verb, &id]).prints(&format!("{id}\n"));
        assert!(!lives(pid), "'{verb}' returned before the helper was gone");
        fs::write(&key, &secret).unwrap();
        if verb == "stop" {
            env.run(&["start", &id]).prints(&format!("{id}\n"));
        }
    }
    assert!(!lives(second));
    assert_eq!(env.leftovers(), Vec::<String>::new());

    // Of a command that is killed, with all that belongs to it.
    let mut live = env.live(&[
        "run",
        "--mem",
        "256M",
        "--net",
        "egress",
        "--",
        "sh",
        "-c",
        "echo ready; sleep 4402",
    ]);
    live.says("ready");
    let id = env.ids().remove(0);
    let (vmm, pid) = (env.vmm(&id), env.network_helper(&id));
    live.kill();
    assert!(lives(vmm) && lives(pid), "only 'reap' ends them");
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    assert!(!lives(vmm) && !lives(pid));
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn a_rebuilt_registry_knows_the_helper(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let port = greeting::serve();
    let id = env.start(&["--keep", "--mem", "256M", "--allow", &format!("host:{port}")]);
    let pid = env.network_helper(&id);
    fs::write(env.registry(), "damaged").unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 1 VMs\n");
    assert_eq!((env.network_helper(&id), &env.network(&id)["state"]), (pid, &"up".into()));
    kill_and_wait(pid);
    fs::write(env.registry(), "damaged").unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 1 VMs\n");
    assert_eq!(env.network(&id)["state"], "lost");
    env.run(&["exec", &id, "--", "bash", "-c", &greeting::ask(port)]).prints(HEARD);
    env.rm(&id);
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
