//! VMs with a network: what it adds to a run, and how fast it is against QEMU's own user-mode network and passt.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mayfly::host::signals::PendingSignals;
use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};

use crate::bare::{BareLauncher, BareNetwork};
use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::{Samples, in_turns, ms_since};
use crate::workspace::{QEMU, Workspace, timed};

/// A rule that gives a VM a network.
const ALLOW: &[&str] = &["--allow", "host"];

/// The client in the guest: it sends bytes, reads until the end, or sends back what it reads.
const CLIENT: &str = r#"
    use IO::Socket::INET;
    my ($port, $what, $bytes) = @ARGV;
    my $socket = IO::Socket::INET->new(PeerAddr => "192.0.0.1", PeerPort => $port) or die "connect: $!";
    my $block = "x" x 131072;
    if ($what eq "out") { for (1 .. $bytes / 131072) { print $socket $block or die } }
    elsif ($what eq "in") { 1 while sysread $socket, $block, 131072 }
    else { while (sysread $socket, $block, 1) { syswrite $socket, $block } }
"#;

/// Opens connections, fills what is between their ends, and holds them until the input ends.
const CROWD: &str = r#"
    use IO::Socket::INET;
    my ($port, $count) = @ARGV; $| = 1;
    my @sockets = map {
        IO::Socket::INET->new(PeerAddr => "192.0.0.1", PeerPort => $port) or die "connection $_: $!"
    } 1 .. $count;
    $_->blocking(0) for @sockets;
    for (1 .. 3) { for my $socket (@sockets) { syswrite $socket, "x" x 65536 } }
    print "ready\n";
    <STDIN>;
"#;

/// The most connections of a VM.
const CONNECTIONS: usize = 1024;

/// Round trips in one sample.
const ROUND_TRIPS: usize = 300;

/// Compares a warm run with and without a network, and a VM's connections through mayfly's helper with those of a bare
/// VM through other networks; and measures the helper's memory.
pub fn measure(
    workspace: &Workspace,
    launcher: &BareLauncher,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let [ours, floor] = in_turns(
        options.rounds,
        [&mut || timed(&mut workspace.run_true(QEMU, ALLOW)), &mut || {
            timed(&mut workspace.run_true(QEMU, &[]))
        }],
    )?;
    report.add(Row {
        name: "run qemu with a network".into(),
        unit: Unit::Ms,
        ours,
        floor_name: "run qemu".into(),
        floor,
        goal: Goal::Extra(15.0),
    });
    connections(workspace, launcher, &BareNetwork::User, options, signals, report)?;
    match BareNetwork::passt() {
        Ok(passt) => connections(workspace, launcher, &passt, options, signals, report)?,
        Err(error) => eprintln!("bench: passt is not measured: {error:#}"),
    }
    memory(workspace, report)
}

/// The host's end of a connection, which returns what it measured.
type ServedEnd = fn(TcpStream, usize) -> Result<f64>;

/// Throughput and round trips, against another network. Each direction is to be faster than through QEMU's; passt, which
/// filters nothing, favours one of them, so both are compared together.
fn connections(
    workspace: &Workspace,
    launcher: &BareLauncher,
    other: &BareNetwork,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let vm = workspace.start_vm(&[QEMU, ALLOW].concat(), &[])?;
    let mut bare = launcher.boot_with_network(workspace, other)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let bytes = options.mib << 20;
    let count = bytes.to_string();
    let each = match other {
        BareNetwork::User => Goal::Rate(1.0),
        BareNetwork::Passt(_) => Goal::None,
    };
    let kinds: [(_, ServedEnd, _, _); 3] = [
        ("out", receive, Unit::MegabytesPerSecond, each),
        ("in", send, Unit::MegabytesPerSecond, each),
        ("round trip", go_back_and_forth, Unit::Ms, Goal::None),
    ];
    let mut rates = Vec::new();
    for (what, serve, unit, goal) in kinds {
        let script = ["perl", "-e", CLIENT, &port, what, &count];
        let [ours, floor] = in_turns(
            options.pairs,
            [
                &mut || {
                    let run = || timed(&mut vm.exec(&[], &script)).map(drop);
                    served(&listener, |stream| serve(stream, bytes), run)
                },
                &mut || {
                    let run = || bare.exec(&script, signals).map(drop);
                    served(&listener, |stream| serve(stream, bytes), run)
                },
            ],
        )?;
        if unit == Unit::MegabytesPerSecond {
            rates.push([ours.clone(), floor.clone()]);
        }
        let (name, floor_name) = (format!("network, {what}"), other.name().into());
        report.add(Row { name, unit, ours, floor_name, floor, goal });
    }
    let [ours, floor] = [0, 1].map(|side| {
        let [out, into] = [&rates[0][side], &rates[1][side]];
        Samples(out.0.iter().zip(&into.0).map(|(one, other)| one + other).collect())
    });
    report.add(Row {
        name: "network, out and in together".into(),
        unit: Unit::MegabytesPerSecond,
        ours,
        floor_name: other.name().into(),
        floor,
        goal: Goal::Rate(1.0),
    });
    Ok(())
}

/// Serves the next connection while the guest's client runs, and returns what was measured.
fn served(
    listener: &TcpListener,
    serve: impl FnOnce(TcpStream) -> Result<f64> + Send,
    run: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener.accept()?.0));
        if let Err(error) = run() {
            // Ends the server, which may still wait for the client.
            let _ = TcpStream::connect(listener.local_addr()?);
            return Err(error);
        }
        server.join().expect("the server panicked")
    })
}

fn receive(mut stream: TcpStream, bytes: usize) -> Result<f64> {
    let (begun, mut buffer, mut left) = (Instant::now(), vec![0; 1 << 17], bytes);
    while left > 0 {
        match stream.read(&mut buffer)? {
            0 => bail!("the connection ended {left} bytes early"),
            count => left = left.checked_sub(count).context("more came than was sent")?,
        }
    }
    Ok(rate(bytes, begun))
}

fn send(mut stream: TcpStream, bytes: usize) -> Result<f64> {
    let (begun, block) = (Instant::now(), vec![0; 1 << 17]);
    for _ in 0..bytes / block.len() {
        stream.write_all(&block)?;
    }
    stream.shutdown(Shutdown::Write)?;
    // The guest closes its end when it has read everything.
    match stream.read(&mut [0]) {
        Ok(0) => Ok(rate(bytes, begun)),
        Ok(_) => bail!("the guest answers"),
        Err(error) => Err(error.into()),
    }
}

/// Milliseconds of one round trip of a byte.
fn go_back_and_forth(mut stream: TcpStream, _: usize) -> Result<f64> {
    stream.set_nodelay(true)?;
    let begun = Instant::now();
    for _ in 0..ROUND_TRIPS {
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
    }
    Ok(ms_since(begun) / ROUND_TRIPS as f64)
}

/// MB/s of moving `bytes`.
fn rate(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// The helper's memory, without connections and with as many as there may be, on which the host does not read.
fn memory(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let vm = workspace.start_vm(&[QEMU, ALLOW].concat(), &[])?;
    timed(&mut vm.exec(&[], &["true"]))?;
    let helper = vm.instance()?.network.context("the VM has no helper")?.process.pid;
    let idle = resident(helper)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    // Connections stay in the queue, where little of what they bring is kept.
    listen(&listener, Backlog::new(2 * CONNECTIONS as i32)?)?;
    setsockopt(&listener, sockopt::RcvBuf, &4096)?;
    let (port, count) = (listener.local_addr()?.port().to_string(), CONNECTIONS.to_string());
    let raise = "ulimit -n 4096; exec perl \"$@\"";
    let script = ["sh", "-c", raise, "sh", "-e", CROWD, &port, &count];
    let mut crowd = vm.exec(&["-i"], &script);
    let mut crowd = crowd.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(crowd.stdout.take().context("no pipe")?).read_line(&mut said)?;
    let busy = resident(helper)?;
    drop(crowd.stdin.take());
    let status = crowd.wait()?;
    if said != "ready\n" || !status.success() {
        bail!("{CONNECTIONS} connections: {said:?} {status}");
    }
    for (name, memory, limit) in [
        ("network helper, idle".to_owned(), idle, 8.0),
        (format!("network helper, {CONNECTIONS} connections"), busy, 80.0),
    ] {
        report.add(Row {
            name,
            unit: Unit::MiB,
            ours: Samples(vec![memory]),
            floor_name: "idle".into(),
            floor: Samples(vec![idle]),
            goal: Goal::Within(limit),
        });
    }
    Ok(())
}

/// The resident memory of a process, in MiB.
fn resident(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
