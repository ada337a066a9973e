//! Several commands in one VM.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::support::live::Live;

pub fn several_commands_run_at_once(bench: &Bench) {
    let vm = bench.vm();
    let mut lives: Vec<Live> = (0..8)
        .map(|_| {
            vm.live(&["-i", "--", "sh", "-c", "echo ready; read line; echo got $line; exit $line"])
        })
        .collect();
    for live in &mut lives {
        live.says("ready");
    }
    vm.exec(&["--", "true"]).fails(125, "mayfly: 8 commands already run in this VM\nhint: [..]\n");
    // All eight run at the same time, and each gets its own input.
    for (n, live) in lives.iter_mut().enumerate().rev() {
        live.write(format!("{n}\n").as_bytes());
    }
    for (n, live) in lives.into_iter().enumerate() {
        live.end().is(n as i32, &format!("ready\ngot {n}\n"), "");
    }
    vm.exec(&["--", "echo", "room again"]).prints("room again\n");
}

pub fn a_killed_client_leaves_nothing_for_the_next(bench: &Bench) {
    let vm = bench.vm();
    let mark = vm.mark();
    let copy = format!("echo ready; cat - /no/such/{mark}");
    let sleep = format!("4301.{mark}");
    for round in 0..6 {
        // During output, during input, or at the start.
        let client = match round % 3 {
            0 => {
                let mut client = vm.live(&["--", "yes", &mark]);
                client.says(&mark);
                client
            }
            1 => {
                let mut client = vm.live(&["-i", "--", "sh", "-c", &copy]);
                client.says("ready");
                client.write(&[b's'; 10_000]);
                client
            }
            _ => vm.live(&["--", "sleep", &sleep]),
        };
        client.kill();
        let fresh = format!("fresh {round}");
        vm.exec(&["--", "echo", &fresh]).prints(&format!("{fresh}\n"));
    }
    // The commands of the killed clients have ended.
    vm.loses_marked();
}

pub fn a_command_ends_with_its_vm(bench: &Bench) {
    let vm = bench.vm();
    let start = |vm: &crate::bench::Vm| {
        let mut live =
            vm.live(&["--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]);
        live.says("ready");
        live
    };
    let live = start(&vm);
    vm.env.run(&["stop", "--grace", "2s", &vm.id]).prints(&format!("{}\n", vm.id));
    let stopped = "mayfly: the VM was stopped while the command ran\n";
    live.end().is(125, "ready\n", stopped);
    assert_eq!(vm.env.status(&vm.id)["state"], "stopped");
    vm.env.run(&["start", &vm.id]).prints(&format!("{}\n", vm.id));
    let live = start(&vm);
    vm.env.rm(&vm.id);
    live.end().is(125, "ready\n", stopped);
}

/// The VM of a `run` that has begun, and its VMM.
fn vm_of_run(bench: &Bench, run: &mut Live) -> Pid {
    run.says("ready");
    let ids = bench.env.ids();
    assert_eq!(ids.len(), 1, "{ids:?}");
    Pid::from_raw(bench.env.vmm(&ids[0]))
}

/// A job scheduler ends a job by a signal to each of its processes.
pub fn the_end_of_a_job_reaches_the_guest(bench: &Bench) {
    if bench.skips("the signal ends the agent as well") {
        return;
    }
    // The shell may report that the signal has ended its sleep, too.
    let line = "exec 2> /dev/null; trap 'sleep 0.3; echo saved; exit 9' TERM; echo ready; \
                while :; do sleep 0.1; done";
    let mut run = bench.env.live(&["run", "--mem", "256M", "--", "sh", "-c", line]);
    let vmm = vm_of_run(bench, &mut run);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(vmm, signal).unwrap();
    }
    run.signal(Signal::SIGTERM);
    run.end().is(9, "ready\nsaved\n", "");
}

pub fn what_killed_a_vmm_is_named(bench: &Bench) {
    let mut run =
        bench.env.live(&["run", "--mem", "256M", "--", "sh", "-c", "echo ready; exec sleep 4404"]);
    kill(vm_of_run(bench, &mut run), Signal::SIGKILL).unwrap();
    run.end().is(125, "ready\n", "mayfly: SIGKILL killed the VMM of VM [..]\nhint: [..]\n");
}
