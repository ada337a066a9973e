//! What a case runs on: a backend, an empty state directory, and what to expect there.

use std::process::Command;

use crate::support::answer::Answer;
use crate::support::environment::{Environment, starts_cold};
use crate::support::live::Live;
use crate::support::processes::eventually;

/// A backend with an environment, what it must report, and sizes that suit it.
pub struct Bench {
    pub env: Environment,
    pub backend: &'static str,
    pub accelerator: &'static str,
    pub isolation: &'static str,
    /// Whether a VM is a machine with its own kernel, disks and users.
    pub is_machine: bool,
    /// Whether its VMM runs in a jail: with its own root, control group and user.
    pub is_jailed: bool,
    /// Bytes that a guest prints in a few seconds, on a slow host.
    pub flood: u64,
    /// Bytes that are sent and received in a few seconds.
    pub payload: usize,
    /// How many files are copied, and their size in bytes.
    pub copied: (usize, usize),
    /// How many copies of a template are compared.
    pub copies: usize,
    /// How many of a template's files are damaged, one after the other. Each time the template is rebuilt.
    pub damaged: usize,
    /// The sysrq key that ends the VM: `o` powers off, `b` reboots.
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

    /// Firecracker, possibly on an emulated KVM host, where everything is ten times slower.
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
            // Firecracker's machines cannot be powered off.
            last_key: 'b',
        }
    }

    /// Returns whether VMs are no machines, and then prints why the case is skipped.
    pub fn skips(&self, why: &str) -> bool {
        if !self.is_machine {
            eprintln!("skipped on {}: {why}", self.backend);
        }
        !self.is_machine
    }

    /// Returns whether there are no templates, and then prints why the case is skipped.
    pub fn lacks_templates(&self) -> bool {
        if starts_cold() {
            eprintln!("skipped: MAYFLY_TEST_COLD has all VMs boot");
        }
        starts_cold() || self.skips("a process of the host cannot be frozen")
    }

    /// Returns whether the case is only repeated because all VMs boot, which makes no difference to it.
    pub fn repeats(&self) -> bool {
        if starts_cold() {
            eprintln!("skipped: it does not depend on how VMs start");
        }
        starts_cold()
    }

    /// Another bench of the same backend, with its own templates.
    pub fn apart(&self) -> Bench {
        let mut bench = match self.backend {
            "qemu" => Bench::qemu(),
            "firecracker" => Bench::firecracker(self.is_jailed),
            other => panic!("{other} has no templates"),
        };
        bench.env.keep_templates_apart();
        bench
    }

    /// Starts a VM that commands do not delete. It is small, because several run at the same time and Firecracker
    /// writes all memory of a template; and all have the same size, so that they share one template.
    #[track_caller]
    pub fn vm(&self) -> Vm<'_> {
        let id = self.env.start(&["--keep", "--mem", "256M"]);
        Vm { env: &self.env, id }
    }
}

/// `MAYFLY_TEST_FLOOD_MIB` in bytes, or the default.
fn flood(default: u64) -> u64 {
    match std::env::var("MAYFLY_TEST_FLOOD_MIB") {
        Ok(mib) => mib.parse::<u64>().expect("MAYFLY_TEST_FLOOD_MIB is a number") << 20,
        Err(_) => default,
    }
}

/// This many files of 33 KB, or with `MAYFLY_TEST_COPY` 5,000 files of 100 KB.
fn copied(files: usize) -> (usize, usize) {
    if std::env::var_os("MAYFLY_TEST_COPY").is_some_and(|value| !value.is_empty()) {
        (5_000, 100_000)
    } else {
        (files, 33_333)
    }
}

/// `MAYFLY_TEST_COPIES`, or the default.
fn copies(default: usize) -> usize {
    match std::env::var("MAYFLY_TEST_COPIES") {
        Ok(count) => count.parse().expect("MAYFLY_TEST_COPIES is a number"),
        Err(_) => default,
    }
}

/// `MAYFLY_TEST_DAMAGED`, or the default.
fn damaged(default: usize) -> usize {
    match std::env::var("MAYFLY_TEST_DAMAGED") {
        Ok(count) => count.parse().expect("MAYFLY_TEST_DAMAGED is a number"),
        Err(_) => default,
    }
}

/// A VM. Dropping it deletes it.
pub struct Vm<'a> {
    pub env: &'a Environment,
    pub id: String,
}

impl Vm<'_> {
    /// Runs `exec` in the VM with these further arguments.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Answer {
        self.env.run(&self.args(args))
    }

    /// Runs a line of shell.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Answer {
        self.exec(&["--", "sh", "-c", line])
    }

    /// Runs a line of shell with standard input.
    #[track_caller]
    pub fn feed(&self, line: &str, input: &[u8]) -> Answer {
        self.feed_to(&["-i", "--", "sh", "-c", line], input)
    }

    /// Runs `exec` with these further arguments and standard input.
    #[track_caller]
    pub fn feed_to(&self, args: &[&str], input: &[u8]) -> Answer {
        self.env.feed(&self.args(args), input)
    }

    /// A number for the arguments of this VM's commands, to recognise them by. On mock, `pgrep` in a VM finds all
    /// processes of the host, including those of other users and other test runs.
    pub fn mark(&self) -> String {
        u64::from_str_radix(&self.id, 16).expect("an id is hexadecimal").to_string()
    }

    /// Waits until no process has the VM's mark in its arguments.
    #[track_caller]
    pub fn loses_marked(&self) {
        let mark = self.mark();
        let (first, rest) = mark.split_at(1);
        // The brackets keep the pattern from matching the search itself.
        let search = format!("pgrep -f '[{first}]{rest}'");
        eventually("the end of the marked processes", || self.sh(&search).code() == 1);
    }

    /// Starts `exec` with these further arguments.
    pub fn live(&self, args: &[&str]) -> Live {
        self.env.live(&self.args(args))
    }

    /// `exec` with these further arguments, not started yet.
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
