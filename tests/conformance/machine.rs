//! Fork bombs, full memory, orphans, and what a guest knows about itself.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bench::Bench;
use crate::support::processes::eventually;

pub fn a_fork_bomb_does_not_harm_the_host(bench: &Bench) {
    if bench.skips("a fork bomb on the host is the host's problem") {
        return;
    }
    let vm = bench.vm();
    vm.exec(&["--timeout", "3s", "-c", "b() { b | b & }; b; sleep 4501"]).is(
        124,
        "",
        "[..]mayfly: command timed out after 3s\n",
    );
    eventually("an answer after the bomb", || vm.exec(&["--", "true"]).code() == 0);
    // During a fork bomb, the VM can still be stopped within little more than its grace.
    let mut live = vm.live(&["-c", "echo ready; b() { b | b & }; b; sleep 4502"]);
    live.says("ready");
    // Nor does it keep other commands from their share of the CPU and of processes. Without one, they would find no
    // agent that answers in time.
    vm.exec(&["--", "echo", "here"]).prints("here\n");
    let asked = Instant::now();
    vm.env.run(&["stop", "--grace", "5s", &vm.id]).prints(&format!("{}\n", vm.id));
    assert!(asked.elapsed() < Duration::from_secs(12), "stop took {:?}", asked.elapsed());
    assert_ne!(live.end().code(), 0);
}

pub fn memory_that_runs_out_costs_the_command_only(bench: &Bench) {
    if bench.skips("the host's memory is not ours to fill") {
        return;
    }
    let vm = bench.vm();
    // tail keeps a line that never ends in memory.
    vm.exec(&["--", "tail", "/dev/zero"]).is(137, "", "");
    vm.exec(&["--", "echo", "still here"]).prints("still here\n");
}

pub fn orphans_are_reaped(bench: &Bench) {
    let vm = bench.vm();
    let count = if bench.is_machine { 300 } else { 2000 };
    vm.sh(&format!("i=0; while [ $i -lt {count} ]; do (true &) ; i=$((i+1)); done")).prints("");
    let zombies = "grep -h ^State: /proc/[0-9]*/status 2>/dev/null | grep -c Z";
    let ours = |pid: i32| format!("ps -o stat= --ppid {pid} | grep -c Z");
    let line = if bench.is_machine { zombies.to_owned() } else { ours(vm.env.vmm(&vm.id)) };
    eventually("at most five zombies", || {
        vm.sh(&line).stdout().trim().parse::<u32>().unwrap() <= 5
    });
}

pub fn the_guest_knows_its_name_and_the_time(bench: &Bench) {
    let name = "host-7";
    let env = &bench.env;
    env.start(&["--name", name, "--mem", "256M"]);
    let sh = |line: &str| env.run(&["exec", "--keep", name, "--", "sh", "-c", line]).line();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let guest: f64 = sh("date +%s.%N").parse().unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(before - 0.5 < guest && guest < after + 0.5, "{guest} not within {before} and {after}");
    if bench.skips("the rest is the host's own") {
        return env.rm(name);
    }
    assert_eq!(sh("hostname"), name);
    assert_eq!(sh("nproc"), "1");
    assert_eq!(
        sh("cat /proc/1/comm; id -un; stat -f -c %T / | head -1").lines().nth(1),
        Some("root")
    );
    let other = sh("cat /proc/sys/kernel/random/boot_id");
    let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(other, own.trim(), "a kernel of its own");
    if bench.backend == "firecracker" {
        // The emulated host runs another kernel.
        let own = nix::sys::utsname::uname().unwrap();
        assert_ne!(sh("uname -r"), own.release().to_str().unwrap());
    }
    // There is no network interface but the loopback.
    assert_eq!(sh("ls /sys/class/net"), "lo");
    env.rm(name);

    // The VM has the requested size. No other test uses this size, so a template would be a waste.
    let line = "nproc; awk '/^MemTotal/ { print $2 }' /proc/meminfo";
    let size = ["--cold", "--vcpus", "2", "--mem", "512M"];
    let answer = env.run(&[&["run"], &size[..], &["--", "sh", "-c", line]].concat());
    let said: Vec<u64> = answer.stdout().lines().map(|line| line.parse().unwrap()).collect();
    assert!(matches!(said[..], [2, 400_000..=524_288]), "{answer}");
}
