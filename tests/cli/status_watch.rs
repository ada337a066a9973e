//! `mayfly status --watch`.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::eventually;
use crate::support::terminal::Sitting;

const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

fn mock() -> Environment {
    let mut env = Environment::mock();
    env.set("TERM", "xterm");
    env.set("NO_COLOR", "1");
    env
}

#[test]
fn on_a_terminal_the_list_fills_the_screen_and_restores_it() {
    let env = mock();
    let mut sitting = env.sit(&["status", "--watch"]);
    sitting.sees(ENTER);
    sitting.sees("VM  NAME");
    let id = env.create(&["--name", "box"]);
    let drawn = sitting.sees("created");
    let row = drawn.lines().last().unwrap();
    assert!(row.contains(&id) && row.starts_with("\u{1b}[K"), "{drawn:?}");
    assert!(!drawn.contains("\u{1b}[2J"), "nothing is blanked first: {drawn:?}");
    // One row for the title, one for a VM, and one with the number of hidden VMs.
    env.create(&["--name", "two"]);
    env.create(&["--name", "three"]);
    sitting.sees("three");
    sitting.resize(3, 40);
    sitting.sees("and 2 more; q quits");
    sitting.resize(24, 80);
    env.run(&["start", "box"]).prints("box\n");
    sitting.sees("started");
    // The end of a VMM does not change the registry.
    kill(Pid::from_raw(env.vmm(&id)), Signal::SIGKILL).unwrap();
    sitting.sees("stopped (");
    sitting.types("\u{3}");
    let (code, screen) = sitting.ends();
    assert_eq!(code, 130);
    assert!(screen.ends_with(LEAVE), "{screen:?}");
    assert_eq!((screen.matches(ENTER).count(), screen.matches(LEAVE).count()), (1, 1));
    env.clear();
}

#[test]
fn every_row_is_drawn_whole_and_q_quits() {
    let mut env = mock();
    env.set("MAYFLY_MAX_ACTIVE_VMS", "12");
    let names: Vec<String> =
        (0..12).map(|at| format!("vm-{at}-with-a-name-that-is-rather-long")).collect();
    names.iter().for_each(|name| drop(env.create(&["--name", name])));
    let mut sitting = env.sit(&["status", "--watch", "--sort", "created"]);
    sitting.sees("q quits");
    let rows = |sitting: &Sitting, rows, columns| -> Vec<String> {
        sitting.drawn(rows, columns).iter().map(|row| row.trim_end().to_owned()).collect()
    };
    let title = "VM            NAME                          PROFILE      STATE    RUNS ON  LEFT";
    eventually("the list", || rows(&sitting, 24, 80)[0] == title);
    let shown = rows(&sitting, 24, 80);
    for (row, at) in shown[1..13].iter().zip(0..) {
        assert!(row.contains(&format!("  vm-{at}-with")) && row.contains("  mock  "), "{row}");
        assert!(row.rsplit(' ').next().unwrap().starts_with('9'), "the time left is whole: {row}");
    }
    assert_eq!((&*shown[13], &*shown[23]), ("", "q quits"));
    // A shorter name, and then a smaller terminal.
    names.iter().zip(0..).for_each(|(name, at)| {
        env.run(&["rename", name, &format!("vm-{at}")]).prints(&format!("vm-{at}\n"));
    });
    let title = "VM            NAME   PROFILE      STATE    RUNS ON  ISOLATION  SIZE       LEFT";
    eventually("the short names", || rows(&sitting, 24, 80)[0] == title);
    sitting.resize(7, 41);
    eventually("the small list", || {
        let shown = rows(&sitting, 7, 41);
        shown[0] == "VM            NAME   STATE    LEFT" && shown[6] == "and 7 more; q quits"
    });
    // Other keys do nothing.
    sitting.types("x\r");
    sitting.types("q");
    let (code, screen) = sitting.ends();
    assert_eq!(code, 0);
    assert!(screen.ends_with(LEAVE), "{screen:?}");
    env.clear();
}

#[test]
fn without_a_keyboard_ctrl_c_quits() {
    let env = mock();
    let script = "exec mayfly status --watch < /dev/null";
    let mut sitting = Sitting::start(env.client("sh", &["-c", script]));
    sitting.sees("Ctrl-C quits");
    sitting.types("\u{3}");
    assert_eq!(sitting.ends().0, 130);
}

#[test]
fn a_suspended_list_restores_the_screen() {
    let env = mock();
    let mut sitting = env.sit(&["status", "-w"]);
    sitting.sees("VM  NAME");
    assert!(!sitting.is_as_before(), "keys are not echoed");
    // Without a shell, the kernel does not stop it.
    sitting.types("\u{1a}");
    sitting.sees(LEAVE);
    sitting.sees(ENTER);
    sitting.sees("VM  NAME");
    sitting.signal(Signal::SIGTERM);
    let (code, screen) = sitting.ends();
    assert_eq!(code, 143);
    assert!(screen.ends_with(LEAVE), "{screen:?}");
    assert_eq!((screen.matches(ENTER).count(), screen.matches(LEAVE).count()), (2, 2));
}

#[test]
fn off_a_terminal_each_change_is_printed_once() {
    let env = mock();
    env.create(&["--name", "other"]);
    let id = env.create(&["--name", "box", "--label", "job=1"]);
    let mut json = env.live(&["status", "--watch", "--json", "--filter", "label=job"]);
    let mut named = env.live(&["status", "--watch", "box"]);
    let mut ids = env.live(&["status", "--watch", "-q", "--sort", "name"]);
    let lines = |live: &Live| -> Vec<Value> {
        live.said().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    eventually("the first", || lines(&json).len() == 1 && named.said().contains("created"));
    eventually("the ids", || ids.said().lines().count() == 2);
    env.run(&["rename", "box", "carton"]).prints("carton\n");
    eventually("the second", || lines(&json).len() == 2 && named.said().contains("carton"));
    env.run(&["extend", "other", "20m"]).prints("other\n");
    env.rm(&id);
    eventually("the last", || json.said().ends_with("[]\n") && named.said().ends_with("LEFT\n"));
    let said = lines(&json);
    assert_eq!(said[0][0]["name"], "box");
    assert_eq!(
        (&said[1][0]["vm_id"], &said[1][0]["name"]),
        (&id.as_str().into(), &"carton".into())
    );
    let blocks: Vec<String> = named.said().split("\n\n").map(str::to_owned).collect();
    assert!(blocks.iter().all(|block| block.starts_with("VM ")), "{blocks:?}");
    assert!(blocks[0].lines().count() == 2 && !named.said().contains("other"), "{blocks:?}");
    for live in [&mut json, &mut named, &mut ids] {
        live.signal(Signal::SIGINT);
        assert!(live.child.wait().unwrap().code().is_none(), "as any program");
    }
    assert!(ids.end().stdout().starts_with(&format!("{id}\n")));
    assert!(json.end().stderr().is_empty() && named.end().stderr().is_empty());
    env.run(&["status", "--watch", "nobody"]).fails(3, "mayfly: no VM \"nobody\"\nhint: [..]\n");
    env.clear();
}

#[test]
fn a_closed_pipe_ends_the_list() {
    let env = mock();
    for flag in ["--json", "-q"] {
        let mut command = env.command(&["status", "--watch", flag]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut code = None;
        eventually("its end", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(0));
    }
}

#[test]
fn on_a_dumb_terminal_nothing_is_drawn_over() {
    let mut env = mock();
    env.set("TERM", "dumb");
    let mut sitting = env.sit(&["status", "--watch"]);
    sitting.sees("VM  NAME");
    let id = env.create(&[]);
    let screen = sitting.sees(&id);
    assert!(!screen.contains('\u{1b}'), "{screen:?}");
    sitting.types("\u{3}");
    drop(sitting);
    env.clear();
}
