//! From `create` to `rm`.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::support::fields;
use crate::support::processes::{eventually, lives, processor_time};
use crate::support::timers::{fdinfo, timer};

pub fn a_vm_goes_through_its_life(bench: &Bench) {
    let env = &bench.env;
    let created = env.run(&["create", "--json", "--name", "life", "--mem", "256M"]);
    assert_eq!(fields::names(created.stdout()), fields::VM);
    let vm = created.json();
    assert_eq!(
        (&vm["backend"], &vm["accelerator"]),
        (&bench.backend.into(), &bench.accelerator.into())
    );
    assert_eq!((&vm["isolation"], &vm["state"]), (&bench.isolation.into(), &"created".into()));
    assert_eq!(vm["metadata"]["rootfs_image"].is_string(), bench.is_machine);
    let id = vm["vm_id"].as_str().unwrap();
    env.run(&["exec", id, "--", "true"]).fails(125, "mayfly: [..]is created, not started\n[..]");

    env.run(&["start", id]).prints(&format!("{id}\n"));
    assert_eq!(env.status(id)["state"], "started");
    env.run(&["start", id]).fails(4, "mayfly: [..]it is started\n[..]");
    env.run(&["exec", "--keep", id, "--", "sh", "-c", "echo kept > mark; sync"]).prints("");

    let vmm = env.vmm(id);
    env.run(&["stop", id]).prints(&format!("{id}\n"));
    assert!(!lives(vmm), "stop returned before the VMM was gone");
    assert_eq!(env.status(id)["last_error"], serde_json::Value::Null);
    env.run(&["stop", id]).prints(&format!("{id}\n"));

    env.run(&["start", id]).prints(&format!("{id}\n"));
    // The disk is the same. The last command deletes the VM.
    let json = env.run(&["exec", "--json", id, "--", "cat", "mark"]).json();
    assert_eq!(json["stdout"], "kept\n");
    assert_eq!(json["cleanup"]["deleted"], true);
    assert_eq!(json["cleanup"]["reason"], "post_exec_cleanup");
    env.run(&["status", id]).fails(3, "mayfly: no VM [..]");
    env.run(&["rm", id]).fails(3, "mayfly: no VM [..]");
    env.run(&["rm", "-f", id]).prints("");
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn more_time_reaches_the_guest(bench: &Bench) {
    let vm = bench.vm();
    let left = || {
        if bench.is_machine {
            timer(vm.sh("cat /proc/1/fdinfo/* 2>&-").stdout())
        } else {
            timer(&fdinfo(vm.env.vmm(&vm.id)))
        }
    };
    assert!((1.0..=600.0).contains(&left()), "{}", left());
    vm.env.run(&["extend", &vm.id, "1h"]).prints(&format!("{}\n", vm.id));
    assert!(left() > 3500.0, "{}", left());
}

pub fn run_does_it_all_at_once(bench: &Bench) {
    let env = &bench.env;
    env.feed(
        &["run", "-i", "--mem", "256M", "--", "sh", "-c", "cat; echo err >&2; exit 7"],
        b"in\n",
    )
    .is(7, "in\n", "err\n");
    assert_eq!(env.leftovers(), Vec::<String>::new());
    // Interrupted during its command.
    let mut live =
        env.live(&["run", "--mem", "256M", "--", "sh", "-c", "echo ready; exec sleep 4401"]);
    live.says("ready");
    live.signal(Signal::SIGINT);
    live.end().is(130, "ready\n", "");
    assert_eq!(env.leftovers(), Vec::<String>::new());
    // Interrupted during its start, as soon as there is a VM.
    let mut live = env.live(&["run", "--mem", "256M", "--", "echo", "too late"]);
    let vms = env.state().join("vms");
    eventually("a VM", || {
        std::fs::read_dir(&vms).is_ok_and(|mut entries| entries.next().is_some())
            || !live.is_running()
    });
    live.signal(Signal::SIGTERM);
    let answer = live.end();
    // On a fast backend the command may have ended before.
    assert!([0, 143].contains(&answer.code()), "{answer}");
    assert!(!bench.is_machine || answer.code() == 143, "{answer}");
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

pub fn a_vm_that_powers_itself_off_is_stopped(bench: &Bench) {
    if bench.skips("a host process has no power to switch off") {
        return;
    }
    let vm = bench.vm();
    let vmm = vm.env.vmm(&vm.id);
    // Following its log and waiting for it both end.
    let mut log = vm.env.live(&["logs", "-f", &vm.id]);
    let end = vm.env.live(&["wait", "--json", &vm.id]);
    vm.sh("printf 'a \\033[31mlast\\n word\\n' > /dev/ttyS0").prints("");
    log.says("a \\u{1b}[31mlast\n word\n");
    // A command that powers the machine off cannot report its exit code.
    let answer = vm.sh(&format!("echo {} > /proc/sysrq-trigger; sleep 60", bench.last_key));
    answer.is(125, "", "mayfly: the agent went away before[..]");
    eventually("the VMM's end", || !lives(vmm));
    assert_eq!(log.end().code(), 0);
    assert_eq!(end.end().json()["last_error"], "the VM ended by itself");
    vm.env.run(&["logs", &vm.id]).is(0, "[..] word\n[..]", "");
    let status = vm.env.status(&vm.id);
    assert_eq!(
        (&status["state"], &status["last_error"]),
        (&"stopped".into(), &"the VM ended by itself".into())
    );
    vm.exec(&["--", "true"]).fails(125, "mayfly: [..]is stopped (the VM ended by itself)[..]");
    vm.env.run(&["reap"]).prints("");
    vm.env.run(&["start", &vm.id]).prints(&format!("{}\n", vm.id));
    vm.exec(&["--", "echo", "back"]).prints("back\n");
}

/// For how many seconds the VMM hangs.
const DELAY: &str = "MAYFLY_TEST_DELAY";

pub fn a_vmm_that_hangs_at_its_start_is_waited_for(bench: &Bench) {
    if bench.skips("a host process answers before it can be caught") {
        return;
    }
    let seconds = std::env::var(DELAY).map_or(5, |text| text.parse().expect(DELAY));
    let id = bench.env.create(&["--keep", "--mem", "256M"]);
    let start = |flags: &[&str]| {
        let start = bench.env.live(&[&["start", &id], flags].concat());
        let mut vmm = None;
        eventually("a VMM on record", || {
            vmm = bench.env.vmm_if_any(&id);
            vmm.is_some()
        });
        (start, Pid::from_raw(vmm.unwrap()))
    };
    // A dead VMM is not waited for.
    let (dying, vmm) = start(&["--cold"]);
    kill(vmm, Signal::SIGKILL).unwrap();
    dying.end().fails(6, "mayfly: [..]");
    assert_eq!(bench.env.status(&id)["state"], "stopped");

    let (start, vmm) = start(&[]);
    kill(vmm, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(seconds));
    kill(vmm, Signal::SIGCONT).unwrap();
    start.end().prints(&format!("{id}\n"));
    bench.env.run(&["exec", &id, "--", "echo", "late"]).prints("late\n");
    bench.env.rm(&id);
}

/// Clock ticks of processor time after which the kernel of an emulated guest is about to measure its timer, and after which
/// it has done so.
const MEASURES: std::ops::Range<u64> = 30..80;

pub fn a_guest_that_is_not_run_while_it_measures_its_timer_boots_again(bench: &Bench) {
    if bench.accelerator != "tcg" {
        eprintln!("skipped on {}: its processors are not emulated", bench.backend);
        return;
    }
    if bench.repeats() {
        return;
    }
    let id = bench.env.create(&["--keep", "--mem", "256M"]);
    let mut start = bench.env.live(&["start", "--cold", &id]);
    let mut first = None;
    eventually("a VMM on record", || {
        first = bench.env.vmm_if_any(&id);
        first.is_some()
    });
    let vmm = Pid::from_raw(first.unwrap());
    while let Some(ticks) = processor_time(vmm.as_raw()).filter(|&ticks| ticks < MEASURES.end)
        && start.is_running()
    {
        if MEASURES.contains(&ticks) {
            // It may have ended.
            let _ = kill(vmm, Signal::SIGSTOP);
            std::thread::sleep(Duration::from_millis(150));
            let _ = kill(vmm, Signal::SIGCONT);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    start.end().prints(&format!("{id}\n"));
    // At the right rate, the timer counts 1 GHz / 16, in units of 2^-32 per nanosecond.
    let line = "sed -n '/^Clock Event Device: lapic/,/mult:/s/.*mult: *//p' /proc/timer_list";
    let answer = bench.env.run(&["exec", "--keep", &id, "--", "sh", "-c", line]);
    let rate: f64 = answer.stdout().trim().parse().unwrap();
    assert!(rate < 1.2 * (1_u64 << 28) as f64, "timers are late: {rate}");
    bench.env.run(&["exec", "--keep", &id, "--timeout", "10s", "--", "sleep", "0.1"]).prints("");
    bench.env.rm(&id);
}

pub fn a_vmm_that_is_killed_leaves_a_vm_that_can_start_again(bench: &Bench) {
    let vm = bench.vm();
    let mut live = vm.live(&["--", "sh", "-c", "echo ready; exec sleep 4402"]);
    live.says("ready");
    kill(Pid::from_raw(vm.env.vmm(&vm.id)), Signal::SIGKILL).unwrap();
    live.end().is(125, "ready\n", "mayfly: [..]");
    eventually("a stopped VM", || vm.env.status(&vm.id)["state"] == "stopped");
    assert_eq!(vm.env.status(&vm.id)["last_error"], "the VM ended by itself");
    vm.env.run(&["start", &vm.id]).prints(&format!("{}\n", vm.id));
    vm.exec(&["--", "echo", "back"]).prints("back\n");
    if bench.is_machine {
        // Killed during a stop.
        let mut live = vm.live(&["--", "sh", "-c", "trap '' TERM; echo ready; sleep 4403"]);
        live.says("ready");
        let vmm = Pid::from_raw(vm.env.vmm(&vm.id));
        let stop = vm.env.live(&["stop", "--grace", "40s", &vm.id]);
        eventually("a VM that stops", || vm.env.status(&vm.id)["state"] == "stopping");
        kill(vmm, Signal::SIGKILL).unwrap();
        stop.end().prints(&format!("{}\n", vm.id));
        let stopped = "mayfly: the VM was stopped while the command ran\n";
        live.end().is(125, "ready\n", stopped);
        vm.env.run(&["start", &vm.id]).prints(&format!("{}\n", vm.id));
    }
    kill(Pid::from_raw(vm.env.vmm(&vm.id)), Signal::SIGKILL).unwrap();
    // Deleting a VM needs no VMM.
    vm.env.rm(&vm.id);
    assert_eq!(vm.env.leftovers(), Vec::<String>::new());
}
