//! What a case is tried on: a backend, an empty state directory, and what may be expected there.

use std::process::Command;

use crate::support::answer::Answer;
use crate::support::environment::{Environment, starts_cold};
use crate::support::live::Live;
use crate::support::processes::eventually;

/// The accelerator and isolation a backend must report, and what it is able to do.
pub struct Bench {
    pub env: Environment,
    pub backend: &'static str,
    pub accelerator: &'static str,
    pub isolation: &'static str,
    /// Whether a VM is a machine with a kernel, disks and users of its own.
    pub is_machine: bool,
    /// Whether its VMM is locked away: in a root and a cgroup of its own, as nobody.
    pub is_jailed: bool,
    /// Bytes that take a few seconds to move through a guest, on a slow host.
    pub flood: u64,
    /// Bytes that go in and come out again in a few seconds.
    pub payload: usize,
    /// How many files are copied, and the bytes of each.
    pub copied: (usize, usize),
    /// Copies of one template to compare.
    pub copies: usize,
    /// How many of a template's files are damaged, one after the other: each has it made anew.
    pub damaged: usize,
    /// What sysrq is asked for so that the VM ends: `o` for power off, `b` for a reboot.
    pub last_key: char,
}

impl Bench {
    pub fn mock() -> Bench {
        let mut env = Environment::mock();
        env.keep_runtime_in_memory();
        Bench {
            env,
            backend: "mock",
            accelerator: "none",
            isolation: "none",
            is_machine: false,
            is_jailed: false,
            flood: flood(1 << 30),
            payload: 64 << 20,
            copied: copied(300),
            copies: copies(20),
            damaged: damaged(usize::MAX),
            last_key: 'o',
        }
    }

    pub fn qemu() -> Bench {
        Bench {
            env: Environment::qemu(),
            backend: "qemu",
            accelerator: "tcg",
            isolation: "emulated",
            is_machine: true,
            is_jailed: false,
            flood: flood(128 << 20),
            payload: 64 << 20,
            copied: copied(300),
            copies: copies(20),
            damaged: damaged(usize::MAX),
            last_key: 'o',
        }
    }

    /// Firecracker, on a KVM that may be emulated itself: everything is ten times slower then.
    pub fn firecracker(is_jailed: bool) -> Bench {
        Bench {
            env: Environment::firecracker(is_jailed),
            backend: "firecracker",
            accelerator: "kvm",
            isolation: "hardware",
            is_machine: true,
            is_jailed,
            flood: flood(32 << 20),
            payload: 8 << 20,
            copied: copied(100),
            copies: copies(6),
            damaged: damaged(2),
            // It has no power to switch off.
            last_key: 'b',
        }
    }

    /// Says why a case is not tried, where VMs are no machines. Use as `if bench.skips(…) { return }`.
    pub fn skips(&self, why: &str) -> bool {
        if !self.is_machine {
            eprintln!("skipped on {}: {why}", self.backend);
        }
        !self.is_machine
    }

    /// Says why a case about templates is not tried, where there are none.
    pub fn lacks_templates(&self) -> bool {
        if starts_cold() {
            eprintln!("skipped: MAYFLY_TEST_COLD has all VMs boot");
        }
        starts_cold() || self.skips("a process of the host cannot be frozen")
    }

    /// Another bench for the same backend, with templates of its own.
    pub fn apart(&self) -> Bench {
        let mut bench = match self.backend {
            "qemu" => Bench::qemu(),
            "firecracker" => Bench::firecracker(self.is_jailed),
            other => panic!("{other} has no templates"),
        };
        bench.env.keep_templates_apart();
        bench
    }

    /// A started VM that commands do not delete. Small, because several boot at the same time and because
    /// Firecracker writes all of a frozen one's memory; of one size, so that all tests share its template.
    #[track_caller]
    pub fn vm(&self) -> Vm<'_> {
        let id = self.env.start(&["--keep", "--mem", "256M"]);
        Vm { env: &self.env, id }
    }
}

/// The size of floods: `MAYFLY_TEST_FLOOD_MIB`, or what suits the backend.
fn flood(default: u64) -> u64 {
    match std::env::var("MAYFLY_TEST_FLOOD_MIB") {
        Ok(mib) => mib.parse::<u64>().expect("MAYFLY_TEST_FLOOD_MIB is a number") << 20,
        Err(_) => default,
    }
}

/// So many files of 33 KB, or, with `MAYFLY_TEST_COPY`, 5,000 files and 500 MB.
fn copied(files: usize) -> (usize, usize) {
    if std::env::var_os("MAYFLY_TEST_COPY").is_some_and(|value| !value.is_empty()) {
        (5_000, 100_000)
    } else {
        (files, 33_333)
    }
}

/// How many copies are compared: `MAYFLY_TEST_COPIES`, or what suits the backend.
fn copies(default: usize) -> usize {
    match std::env::var("MAYFLY_TEST_COPIES") {
        Ok(count) => count.parse().expect("MAYFLY_TEST_COPIES is a number"),
        Err(_) => default,
    }
}

/// How many of a template's files are damaged: `MAYFLY_TEST_DAMAGED`, or what suits the backend.
fn damaged(default: usize) -> usize {
    match std::env::var("MAYFLY_TEST_DAMAGED") {
        Ok(count) => count.parse().expect("MAYFLY_TEST_DAMAGED is a number"),
        Err(_) => default,
    }
}

/// A VM that is deleted at its end.
pub struct Vm<'a> {
    pub env: &'a Environment,
    pub id: String,
}

impl Vm<'_> {
    /// Runs `exec` with these arguments after the VM's own.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Answer {
        self.env.run(&self.args(args))
    }

    /// Runs a line of shell.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Answer {
        self.exec(&["--", "sh", "-c", line])
    }

    /// The same with standard input.
    #[track_caller]
    pub fn feed(&self, line: &str, input: &[u8]) -> Answer {
        self.feed_to(&["-i", "--", "sh", "-c", line], input)
    }

    /// `exec` with these arguments and this on its own standard input.
    #[track_caller]
    pub fn feed_to(&self, args: &[&str], input: &[u8]) -> Answer {
        self.env.feed(&self.args(args), input)
    }

    /// A number that only this VM's commands have in their arguments. On mock, a command sees every
    /// process of the host, those of other users and of other runs of these tests among them.
    pub fn mark(&self) -> String {
        u64::from_str_radix(&self.id, 16).expect("an id is hexadecimal").to_string()
    }

    /// Waits until no process with the VM's mark in its arguments is left.
    #[track_caller]
    pub fn loses_marked(&self) {
        let mark = self.mark();
        let (first, rest) = mark.split_at(1);
        // In brackets, the digit keeps the pattern from matching the command that searches.
        let search = format!("pgrep -f '[{first}]{rest}'");
        eventually("the end of the marked processes", || self.sh(&search).code() == 1);
    }

    /// `exec` with these arguments, running.
    pub fn live(&self, args: &[&str]) -> Live {
        self.env.live(&self.args(args))
    }

    /// `exec` with these arguments, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        self.env.command(&self.args(args))
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["exec", self.id.as_str()], args].concat()
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.env.run(&["rm", "-f", &self.id]).is(0, "[..]", "");
        }
    }
}
