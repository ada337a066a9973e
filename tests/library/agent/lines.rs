//! Lines that outlive their clients, as a virtio-serial port does: clients die in the middle of a
//! frame, nobody notices their end, and the next one's bytes follow directly.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mayfly::guest::{AgentSession, CommandExit};
use mayfly::host::wait::WaitLimit;
use mayfly::protocol::{ExecRequest, FrameKind, FrameOutbox, Hello, VERSION};

use super::harness::{
    Agent, PATIENCE, argv, channel, eventually, input, lives, open, run, sh, stdout, try_run,
};

/// All that a client says which feeds a command much input.
fn transcript(nonce: u64) -> Vec<u8> {
    let mut bytes = Hello { version: VERSION, nonce }.encode().to_vec();
    let mut say = |kind, payload: &[u8]| {
        let mut outbox = FrameOutbox::default();
        outbox.push(kind, nonce, payload);
        bytes.extend(outbox.pending());
    };
    let request = ExecRequest { stdin: true, ..sh("cat >/dev/null") };
    say(FrameKind::Exec, &serde_json::to_vec(&request).unwrap());
    say(FrameKind::Stdin, &[0xf3; 65_536]);
    say(FrameKind::Stdin, &[0; 40_000]);
    say(FrameKind::Stdin, b"short");
    bytes
}

fn exact_after(dirty: bool, line: &UnixStream) {
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut session = open(line.try_clone().unwrap(), dirty);
    let request = ExecRequest { stdin: true, ..argv(&["cat"]) };
    let outcome = try_run(&mut session, &request, Some(input(bytes.clone()))).unwrap();
    assert_eq!(outcome.exit, CommandExit::Exited(0));
    // The session made the stream non-blocking, and the clone is the same one.
    line.set_nonblocking(false).unwrap();
    assert!(outcome.stdout.truncated && outcome.stdout.bytes == bytes[..1 << 20]);
}

#[test]
fn two_hundred_clients_die_in_mid_frame_and_the_next_is_exact() {
    let (agent, mut line) = Agent::on_port();
    for n in 0..200_u64 {
        let whole = transcript(n);
        // Cuts everywhere: in hellos, headers, requests, payloads, and between frames.
        let cut = (n as usize * 7919) % whole.len();
        line.write_all(&whole[..cut]).unwrap();
        if n % 50 == 49 {
            exact_after(n % 100 == 99, &line);
        }
    }
    drop(agent);
}

#[test]
fn a_command_never_reads_the_zeros_that_complete_its_clients_last_frame() {
    let (agent, mut line) = Agent::on_port();
    let seen = || std::fs::read(agent.dir.path().join("seen")).unwrap_or_default();
    for missing in [1, 100, 3000] {
        let nonce = missing as u64;
        let mut bytes = Hello { version: VERSION, nonce }.encode().to_vec();
        let request = ExecRequest { stdin: true, ..sh("exec cat >seen") };
        let request = serde_json::to_vec(&request).unwrap();
        for (kind, payload) in [
            (FrameKind::Exec, &request[..]),
            (FrameKind::Stdin, &[b'x'; 50_000]),
            (FrameKind::Stdin, &[b'y'; 40_000]),
        ] {
            let mut outbox = FrameOutbox::default();
            outbox.push(kind, nonce, payload);
            bytes.extend(outbox.pending());
        }
        line.write_all(&bytes[..bytes.len() - missing]).unwrap();
        eventually("the complete frame", || seen().len() == 50_000);
        exact_after(true, &line);
        assert!(seen() == [b'x'; 50_000]);
        std::fs::remove_file(agent.dir.path().join("seen")).unwrap();
    }
}

#[test]
fn a_client_that_follows_at_a_frame_boundary_is_served_at_once() {
    let (_agent, line) = Agent::on_port();
    let mut first = open(line.try_clone().unwrap(), false);
    assert_eq!(run(&mut first, &sh("exit 3")).exit, CommandExit::Exited(3));
    // Its end goes unnoticed: nothing is closed.
    for n in 0..20 {
        let asked = Instant::now();
        let mut next = open(line.try_clone().unwrap(), false);
        assert!(asked.elapsed() < Duration::from_millis(200), "a second attempt was needed");
        assert_eq!(run(&mut next, &sh(&format!("exit {n}"))).exit, CommandExit::Exited(n));
    }
}

#[test]
fn the_next_client_ends_the_command_of_the_one_before() {
    let (_agent, mut line) = Agent::on_port();
    let nonce = 77;
    let mut outbox = FrameOutbox::default();
    outbox.push_raw(&Hello { version: VERSION, nonce }.encode());
    let request = sh("setsid sleep 1011 & echo $! > pid; exec yes");
    outbox.push(FrameKind::Exec, nonce, &serde_json::to_vec(&request).unwrap());
    line.write_all(outbox.pending()).unwrap();
    let pid_file = _agent.dir.path().join("pid");
    let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok();
    eventually("the command's start", || pid().is_some());
    let mut next = open(line.try_clone().unwrap(), false);
    eventually("the end of the tree", || !lives(pid().unwrap()));
    assert_eq!(stdout(&run(&mut next, &sh("echo mine"))), "mine\n");
}

#[test]
fn a_connection_that_closes_ends_its_command() {
    let agent = Agent::start();
    let mut line = agent.connect();
    let nonce = 78;
    let mut outbox = FrameOutbox::default();
    outbox.push_raw(&Hello { version: VERSION, nonce }.encode());
    outbox.push(
        FrameKind::Exec,
        nonce,
        &serde_json::to_vec(&sh("echo $$ > pid; sleep 1012")).unwrap(),
    );
    line.write_all(outbox.pending()).unwrap();
    let pid_file = agent.dir.path().join("pid");
    let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok();
    eventually("the command's start", || pid().is_some());
    drop(line);
    eventually("its end", || !lives(pid().unwrap()));
}

#[test]
fn the_sixty_fifth_connection_waits_until_another_ends() {
    let agent = Agent::start();
    let mut sessions: Vec<AgentSession> = (0..64).map(|_| agent.session()).collect();
    let mut waiting = agent.connect();
    waiting.write_all(&Hello { version: VERSION, nonce: 65 }.encode()).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; Hello::SIZE];
    assert_eq!(waiting.read(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);
    sessions.pop();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.read_exact(&mut answer).unwrap();
}

#[test]
fn an_agent_that_comes_late_is_waited_for() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let opening = std::thread::spawn(move || {
        AgentSession::open(channel(ours), false, &mut WaitLimit::within(PATIENCE)).unwrap()
    });
    // Long enough for several attempts to pile up: the scenario, not a synchronisation.
    std::thread::sleep(Duration::from_millis(1200));
    let _agent = Agent::on_stream(theirs);
    let mut session = opening.join().unwrap();
    assert_eq!(run(&mut session, &sh("exit 8")).exit, CommandExit::Exited(8));
}

#[test]
fn noise_before_a_client_does_not_matter() {
    let (_agent, mut line) = Agent::on_port();
    let hello = Hello { version: VERSION, nonce: 1 }.encode();
    line.write_all(&hello[..20]).unwrap();
    line.write_all(&[0xf3; 5000]).unwrap();
    line.write_all(&hello[..31]).unwrap();
    exact_after(false, &line);
}

#[test]
fn an_idle_agent_uses_no_cpu_on_a_port_without_a_client() {
    let (agent, line) = Agent::on_port();
    drop(open(line.try_clone().unwrap(), false));
    // A closed peer is how a port without a client looks: reading yields nothing, poll says HUP.
    drop(line);
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.child.id())).unwrap();
        let fields: Vec<i64> = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .filter_map(|field| field.parse().ok())
            .collect();
        // utime and stime, the 14th and 15th fields, after the state letter.
        fields[10] + fields[11]
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(ticks() - before <= 2, "the agent spins");
}
