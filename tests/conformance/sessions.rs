//! Several commands in one VM.

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
