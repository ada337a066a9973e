//! Agents of guests that were taken over: every verb that talks to the guest, with every way in which one can lie.
//!
//! The agent is `tests/support/hostile_agent.rs`, packed into the image or run by mock. The name of a VM says how it lies,
//! once the VM has started.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::{images, programs, skip};

/// Lies to whoever runs a command or copies out of the VM.
const LIES: &[&str] = &[
    "silent",
    "flood",
    "deaf",
    "forged",
    "giant",
    "garbage",
    "drip",
    "wrong-nonce",
    "other-version",
    "refuse",
    "early-exit",
    "two-starts",
    "two-exits",
    "credit",
    "dripping-output",
    "dripping-frame",
    "late-giant",
];

/// Lies only to whoever copies out of the VM.
const LIES_OF_COPIES: &[&str] = &["endless-copy", "huge-file", "leading-out", "cut-copy"];

/// Lies at the setup, which is part of `start`.
const LIES_AT_SETUP: &[&str] =
    &["setup-forged", "setup-giant", "setup-garbage", "setup-exit", "setup-silent"];

/// What mayfly says about itself at the beginning of each line on stderr.
const OURS: &[&str] = &["mayfly: ", "hint: ", "{\"error\":{", "  last output of ", "  | "];

/// The timeout of commands, and what every verb may take: 30 seconds longer than its VM lives.
const TIMEOUT: &str = "1s";
const BOUND: Duration = Duration::from_secs(50);

/// What a start may take whose agent keeps silent: 30 seconds longer than an emulated machine may take to boot.
const BOOT_BOUND: Duration = Duration::from_secs(210);

/// kB of resident memory.
const CEILING: u64 = 64 << 10;

/// The most lines on stderr.
const LINES: usize = 50;

/// How many VMs lie at the same time.
const AT_ONCE: usize = 8;

/// An environment whose agent is hostile.
struct HostileHost {
    env: Environment,
    mayfly: PathBuf,
}

impl HostileHost {
    /// `None` if the agent is not there, because only a part of the tests was built.
    fn new(bench: &Bench) -> Option<HostileHost> {
        let agent = programs::mayfly().parent()?.join("examples/hostile-agent");
        if !agent.exists() {
            skip::skipped("cargo build --example hostile-agent makes the agent");
            return None;
        }
        let mut env = match bench.backend {
            "mock" => Environment::mock(),
            _ => Environment::qemu(),
        };
        let directory = env.root().join("programs");
        fs::create_dir(&directory).unwrap();
        let mayfly = env.copy_program(&programs::mayfly(), &directory);
        let copied = env.copy_program(&agent, &directory);
        fs::rename(copied, directory.join("mayfly-agent")).unwrap();
        if bench.is_machine {
            // Its initrd will be replaced, so it is a copy.
            let shared = images::artifacts("debian-base").join("debian-base");
            fs::create_dir(env.artifacts()).unwrap();
            let mut copy = Command::new("cp");
            copy.args(["--archive", "--sparse=always"]).arg(shared).arg(env.artifacts());
            assert!(copy.status().unwrap().success());
            env.set("MAYFLY_ARTIFACTS_DIR", env.artifacts());
        } else {
            env.keep_runtime_in_memory();
        }
        env.file("input", "content\n");
        env.profiles(
            "[limits]\nmax_active_vms = 50\nttl_seconds = { min = 1, max = 3600 }\n\
             copy_out_mib = 16\ncopy_out_files = 1000\n",
        );
        Some(HostileHost { env, mayfly })
    }

    /// Runs a verb within all bounds, and returns how it ended.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Answer {
        let as_usual = self.env.command(args);
        let mut command = Command::new(&self.mayfly);
        command.args(args).env_clear().current_dir(self.env.root());
        command.envs(as_usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(File::open(self.env.root().join("input")).unwrap());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = Instant::now();
        let mut live = Live::start_as_set_up(command);
        let mut memory = 0;
        while live.is_running() {
            memory = memory.max(resident(live.pid()));
            let bound = if args[0] == "start" { BOOT_BOUND } else { BOUND };
            assert!(asked.elapsed() < bound, "mayfly {args:?} has no end: {}", live.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        let answer = live.end();
        assert!(memory < CEILING, "{memory} kB resident: {answer}");
        // What a command writes is passed on as it is.
        if !(is_command(args) && args.iter().any(|arg| arg.starts_with("flood"))) {
            check_lines(&answer);
        }
        assert!(
            (0..=6).contains(&answer.code()) || (124..=127).contains(&answer.code()),
            "{answer}"
        );
        answer
    }

    /// Creates and starts a VM, and returns its name.
    #[track_caller]
    fn start<'a>(&self, name: &'a str, ttl: &str) -> &'a str {
        let create = ["create", "--keep", "--ttl", ttl, "--mem", "256M", "--name", name];
        assert_eq!(self.run(&create).code(), 0);
        let started = self.run(&["start", name]);
        assert_eq!(started.code(), 0, "{started}");
        name
    }

    #[track_caller]
    fn fails(&self, args: &[&str]) {
        let answer = self.run(args);
        assert_ne!(answer.code(), 0, "a lie was believed: {answer}");
    }
}

fn is_command(args: &[&str]) -> bool {
    ["exec", "run"].contains(&args[0]) && !args.contains(&"--json")
}

/// Checks that mayfly's messages are few, and that the guest's words are marked and harmless in them.
#[track_caller]
fn check_lines(answer: &Answer) {
    let stderr = answer.stderr();
    assert!(stderr.lines().count() < LINES, "{answer}");
    for line in stderr.lines() {
        assert!(OURS.iter().any(|ours| line.starts_with(ours)), "{line:?} of {answer}");
    }
    assert!(!stderr.contains(['\x1b', '\r', '\u{202e}']), "{answer}");
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// `MAYFLY_TEST_LIES` runs all of them on emulated machines too.
fn chosen(bench: &Bench, lies: &'static [&'static str], few: usize) -> &'static [&'static str] {
    let all = std::env::var_os("MAYFLY_TEST_LIES").is_some_and(|value| !value.is_empty());
    if all || !bench.is_machine { lies } else { &lies[..few.min(lies.len())] }
}

pub fn no_lie_of_an_agent_is_believed_or_waited_for(bench: &Bench) {
    if bench.backend == "firecracker" {
        eprintln!(
            "skipped on firecracker: its protocol is the same, and the hostile agent serves no vsock"
        );
        return;
    }
    let Some(host) = HostileHost::new(bench) else { return };
    let commands = chosen(bench, LIES, 4).iter().map(|lie| (*lie, true));
    let copies = chosen(bench, LIES_OF_COPIES, 1).iter().map(|lie| (*lie, false));
    let waiting: Mutex<Vec<(&str, bool)>> = Mutex::new(commands.chain(copies).collect());
    in_parallel(|| {
        // The guard is dropped before the work begins.
        let next = || waiting.lock().unwrap().pop();
        while let Some((lie, to_commands)) = next() {
            lie_to_all_verbs(&host, lie, to_commands);
        }
    });
    assert_eq!(host.env.leftovers(), Vec::<String>::new());
}

fn in_parallel(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(&work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn lie_to_all_verbs(host: &HostileHost, lie: &str, to_commands: bool) {
    let believed = |args: &[&str]| match to_commands {
        true => host.fails(args),
        false => drop(host.run(args)),
    };
    // Copies out have no timeout: what ends them is a limit on what they bring, or the end of the VM's time.
    let short = host.start(lie, "20s");
    let (inside, out) = (format!("{short}:/tmp/x"), format!("out-{lie}"));
    let commands: &[&[&str]] = &[
        &["exec", "--timeout", TIMEOUT, short, "--", "true"],
        &["exec", "--json", "--timeout", TIMEOUT, short, "--", "true"],
        &["exec", "-i", "--timeout", TIMEOUT, short, "--", "cat"],
        &["exec", "--secret", "a=input", "--timeout", TIMEOUT, short, "-c", "true"],
    ];
    std::thread::scope(|scope| {
        for args in commands {
            scope.spawn(|| believed(args));
        }
        scope.spawn(|| host.fails(&["cp", &inside, &out]));
        scope.spawn(|| host.fails(&["cp", &inside, "-"]));
        scope.spawn(|| drop(host.run(&["cp", "input", &inside])));
    });
    assert!(!host.env.root().join(&out).exists(), "a copy that failed left something");
    assert!(!host.env.root().join("canary").exists());
    assert_eq!(host.run(&["rm", "--force", short]).code(), 0);

    let other = format!("{lie}--other");
    let vm = host.start(&other, "10m");
    drop(host.run(&["extend", vm, "20m"]));
    for args in [
        &["status", vm][..],
        &["logs", vm],
        &["stop", "--grace", "1s", vm],
        &["start", vm],
        &["rm", vm],
    ] {
        let answer = host.run(args);
        assert_eq!(answer.code(), 0, "{answer}");
    }

    let run = format!("{lie}--run");
    let machine = ["run", "--name", &run, "--mem", "256M", "--ttl", "20s", "--timeout", TIMEOUT];
    let copies = ["--copy-in", "input:/tmp", "--copy-out", "/tmp/x", "--secret", "a=input"];
    host.fails(&[&machine[..], &copies, &["--", "true"]].concat());
}

pub fn an_agent_that_lies_at_its_setup_does_not_start_a_vm(bench: &Bench) {
    if bench.backend == "firecracker" {
        eprintln!(
            "skipped on firecracker: its protocol is the same, and the hostile agent serves no vsock"
        );
        return;
    }
    let Some(host) = HostileHost::new(bench) else { return };
    let waiting = Mutex::new(chosen(bench, LIES_AT_SETUP, 2).to_vec());
    in_parallel(|| {
        let next = || waiting.lock().unwrap().pop();
        while let Some(lie) = next() {
            assert_eq!(host.run(&["create", "--mem", "256M", "--name", lie]).code(), 0);
            host.fails(&["start", lie]);
            assert_eq!(host.run(&["rm", lie]).code(), 0);
        }
    });
    assert_eq!(host.env.leftovers(), Vec::<String>::new());
}
