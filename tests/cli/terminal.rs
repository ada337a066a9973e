//! `mayfly shell` and `-t` in a terminal.
//!
//! Every [`Sitting::ends`] also checks that the terminal's settings are restored.

use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::{self, eventually};
use crate::support::terminal::Sitting;

/// An environment in which login shells print nothing of their own.
fn mock() -> Environment {
    let mut env = Environment::mock();
    env.set("TERM", "xterm");
    env.set("NO_COLOR", "1");
    env
}

/// Starts a shell in the VM and waits for its prompt, `> `.
fn plain_shell(env: &Environment, args: &[&str]) -> Sitting {
    let mut sitting = env.sit(&[args, &["-e", "PS1=> ", "--", "sh"]].concat());
    sitting.sees("> ");
    sitting
}

/// The processes of VMs that are not agents.
fn commands(env: &Environment) -> Vec<String> {
    let all = processes::of_state(&env.state()).into_iter().map(|(_, line)| line);
    all.filter(|line| !line.contains("mayfly-agent")).collect()
}

#[test]
fn a_shell_can_be_typed_in_resized_interrupted_and_left() {
    let env = mock();
    let id = env.start(&[]);
    let mut sitting = env.sit(&["shell", "-e", "PS1=> ", &id]);
    // The name of a login shell starts with a hyphen.
    sitting.types("echo \"<${0%${SHELL##*/}}>\"; stty size\r");
    sitting.sees("<->\r\n24 80\r\n");
    assert!(!sitting.is_as_before());
    sitting.resize(30, 100);
    // Only the foreground job gets the signal, so stty must have ended.
    sitting.types("trap 'echo another size' WINCH; stty size; echo d''one\r");
    sitting.sees("30 100\r\ndone\r\n");
    sitting.resize(31, 101);
    sitting.sees("another size\r\n");
    sitting.types("stty size; sleep 1201\r");
    sitting.sees("31 101\r\n");
    eventually("the command", || commands(&env).contains(&"sleep 1201".into()));
    sitting.types("\u{3}");
    sitting.types("echo ended with $?\r");
    sitting.sees("ended with 130\r\n");
    sitting.types("sleep 1202\r");
    eventually("the command", || commands(&env).contains(&"sleep 1202".into()));
    sitting.types("\u{1a}");
    sitting.sees("Stopped");
    sitting.types("kill -KILL %1; wait; echo go''ne; (exit 9)\r");
    // Before the next prompt, the terminal would not pass on the end of the input as a key.
    sitting.sees("gone\r\n");
    sitting.sees("> ");
    sitting.types("\u{4}");
    let (code, _) = sitting.ends();
    assert_eq!(code, 9);
    eventually("the end of the commands", || commands(&env).is_empty());
    assert_eq!(env.status(&id)["state"], "started", "leaving a shell keeps the VM");
    env.rm(&id);
}

#[test]
fn full_screen_programs_restore_the_screen() {
    let env = mock();
    let id = env.start(&["--keep"]);
    for program in [&["vi", "-c", "q"][..], &["less", "/etc/passwd"]] {
        let mut sitting = env.sit(&[&["exec", "-it", &id, "--"], program].concat());
        sitting.sees("\u{1b}[?1049h");
        if program[0] == "less" {
            sitting.sees("root");
            sitting.types("q");
        }
        let (code, screen) = sitting.ends();
        assert_eq!(code, 0);
        assert!(screen.contains("\u{1b}[?1049l"), "{screen:?}");
    }
    env.rm(&id);
}

#[test]
fn a_command_has_one_terminal_for_all_its_streams() {
    let env = mock();
    let id = env.start(&["--keep"]);
    let script = "test -t 0 && test -t 1 && test -t 2 && tty >/dev/tty && echo err >&2; exit 7";
    let (code, screen) = env.sit(&["exec", "-t", &id, "--", "sh", "-c", script]).ends();
    assert_eq!(code, 7);
    assert!(screen.starts_with("/dev/pts/") && screen.ends_with("\r\nerr\r\n"), "{screen:?}");
    // Exit codes and errors are those of exec.
    let (code, screen) = env.sit(&["exec", "-t", &id, "-c", "kill -KILL $$"]).ends();
    assert_eq!((code, &*screen), (137, "\r\nmayfly: killed by SIGKILL\r\n"));
    let (code, screen) = env.sit(&["exec", "-it", &id, "--", "no-such-program"]).ends();
    assert_eq!((code, &*screen), (127, "mayfly: no-such-program: not found\r\n"));
    let (code, screen) = env
        .sit(&["exec", "-it", "--timeout", "1s", &id, "--", "sh", "-c", "printf '> '; sleep 99"])
        .ends();
    assert_eq!((code, &*screen), (124, "> \r\nmayfly: command timed out after 1s\r\n"));
    // All output arrives, however little the terminal takes at once.
    let (code, screen) = env.sit(&["exec", "-t", &id, "--", "seq", "30000"]).ends();
    assert_eq!(code, 0);
    assert!(screen.lines().eq((1..=30000).map(|number| number.to_string())), "some is missing");
    env.rm(&id);
}

#[test]
fn exec_with_a_terminal_may_have_its_output_redirected() {
    let env = mock();
    let id = env.start(&[]);
    let mut command = env.command(&["exec", "-t", &id, "-c", "read line; echo got $line"]);
    let (master, slave) = crate::support::terminal::open();
    command.stdin(slave).stdout(Stdio::piped()).stderr(Stdio::piped());
    let live = Live::start_as_set_up(command);
    std::io::Write::write_all(&mut &master, b"it\r").unwrap();
    live.end().is(0, "it\r\ngot it\r\n", "");
    assert!(env.ids().is_empty());
}

#[test]
fn the_kind_of_terminal_is_passed_on_if_it_is_known_there() {
    let mut env = mock();
    let id = env.start(&["--keep"]);
    let shown = |env: &Environment, flags: &[&str]| {
        let echo = &["-c", "echo $TERM"];
        env.sit(&[&["exec", "-t", &id], flags, echo].concat()).ends().1
    };
    env.set("TERM", "vt100");
    assert_eq!(shown(&env, &[]), "vt100\r\n");
    assert_eq!(shown(&env, &["-e", "TERM=odd/one"]), "odd/one\r\n");
    env.set("TERM", "no-such-terminal");
    assert!(shown(&env, &[]).starts_with("xterm"));
    env.unset("TERM");
    assert_eq!(shown(&env, &[]), "xterm\r\n");
    // Without a terminal, TERM is not set.
    env.run(&["exec", &id, "--", "sh", "-c", "echo ${TERM-none}"]).prints("none\n");
    env.rm(&id);
}

#[test]
fn without_a_terminal_a_shell_is_refused() {
    let env = mock();
    let id = env.create(&[]);
    env.run(&["shell", &id]).fails(
        125,
        &format!(
            "mayfly: 'shell' needs a terminal, and standard input is not one\n\
             hint: 'mayfly exec --keep -i {id} -- bash' reads commands from a file or a pipe\n"
        ),
    );
    env.run(&["run", "-it", "--", "true"]).fails(
        125,
        "mayfly: '-t' needs a terminal, and standard input is not one\n\
         hint: use '-i' to pass other input on\n",
    );
    assert_eq!(env.run(&["shell", "--json", &id]).json_error(125)["kind"], "usage");
    assert_eq!(env.run(&["exec", "--json", "-t", &id, "--", "x"]).json_error(125)["kind"], "usage");
    env.run(&["run"]).fails(
        125,
        "mayfly: no command is given, and profile debian-base has none\n\
         hint: write it at the end, as in 'mayfly run uname -a'; a shell needs a terminal\n",
    );
    let (code, screen) = env.sit(&["exec", "-it", &id]).ends();
    assert_eq!(code, 125);
    assert!(screen.contains(&format!("hint: 'mayfly shell {id}' gives you a shell")), "{screen}");
    let (code, screen) = env.sit(&["shell", &id]).ends();
    assert_eq!(code, 125);
    assert!(screen.contains(&format!("hint: start it with 'mayfly start {id}'")), "{screen}");
    assert_eq!(env.ids(), [id.as_str()]);
    env.rm(&id);
}

#[test]
fn run_with_only_a_terminal_is_a_shell() {
    let env = mock();
    for args in [&["run", "-t"][..], &["run"], &["run", "-i", "--mem", "1G"]] {
        let mut sitting = env.sit(args);
        sitting.types("echo \"<$((6 * 7))>\"; exit 5\r");
        sitting.sees("<42>\r\n");
        assert_eq!(sitting.ends().0, 5);
        assert!(env.ids().is_empty());
    }
    // A screen is not data.
    let (code, screen) = env.sit(&["run", "--json"]).ends();
    assert!(code == 125 && screen.contains("no command is given"), "{screen}");
}

#[test]
fn on_a_terminal_the_profiles_command_comes_before_a_shell() {
    let mut env = mock();
    env.profiles("[profiles.greeter]\nextends = \"debian-base\"\ncmd = [\"echo\", \"hello\"]\n");
    let (code, screen) = env.sit(&["run", "-p", "greeter"]).ends();
    assert_eq!((code, &*screen), (0, "hello\r\n"));
}

#[test]
fn a_killed_vm_restores_the_terminal() {
    let env = mock();
    let id = env.start(&[]);
    let sitting = plain_shell(&env, &["shell", &id]);
    assert!(!sitting.is_as_before());
    kill(Pid::from_raw(env.vmm(&id)), Signal::SIGKILL).unwrap();
    let (code, screen) = sitting.ends();
    assert_eq!(code, 125);
    assert!(screen.contains("> \r\nmayfly: the agent went away"), "{screen:?}");
    eventually("the end of its commands", || commands(&env).is_empty());
    env.rm(&id);
}

#[test]
fn stop_hangs_up_shells_and_does_not_wait_for_them() {
    let env = mock();
    let id = env.start(&[]);
    let mut sitting = env.sit(&["shell", &id, "--", "bash", "--norc", "-i"]);
    sitting.types("echo \"<$((6 * 7))>\"\r");
    sitting.sees("<42>");
    // An interactive shell ignores SIGTERM.
    let asked = Instant::now();
    env.run(&["stop", "--grace", "50s", &id]).prints(&format!("{id}\n"));
    assert!(asked.elapsed().as_secs() < 20, "took {:?}", asked.elapsed());
    let (code, screen) = sitting.ends();
    // Killed by the stop, or disconnected.
    assert!([125, 129].contains(&code), "{code}: {screen:?}");
    assert!(screen.contains("\r\nmayfly: "), "{screen:?}");
    env.rm(&id);
}

#[test]
fn a_signal_hangs_up_and_restores_the_terminal() {
    let env = mock();
    let id = env.start(&[]);
    for (signal, said) in [
        (Signal::SIGTERM, "interrupted by SIGTERM"),
        (Signal::SIGINT, "interrupted by SIGINT"),
        (Signal::SIGQUIT, "interrupted by SIGQUIT"),
        (Signal::SIGHUP, "hung up"),
    ] {
        let mut sitting = plain_shell(&env, &["shell", &id]);
        // A process in another session, like a daemon, is not killed.
        sitting.types("trap '' TERM INT QUIT; setsid sleep 1301 & sleep 1302\r");
        eventually("the command", || commands(&env).contains(&"sleep 1302".into()));
        sitting.signal(signal);
        let (code, screen) = sitting.ends();
        assert_eq!(code, 128 + signal as i32);
        assert!(screen.ends_with(&format!("\r\nmayfly: {said}\r\n")), "{screen:?}");
        eventually("the hangup's work", || {
            let left = commands(&env);
            !left.is_empty() && left.iter().all(|line| line == "sleep 1301")
        });
    }
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    env.rm(&id);
}

#[test]
fn a_command_that_ignores_the_hangup_is_killed() {
    let env = mock();
    let id = env.start(&[]);
    let mut sitting = plain_shell(&env, &["shell", &id]);
    sitting.types("trap '' HUP; sleep 1303\r");
    eventually("the command", || commands(&env).contains(&"sleep 1303".into()));
    sitting.signal(Signal::SIGTERM);
    assert_eq!(sitting.ends().0, 143);
    eventually("its end", || commands(&env).is_empty());
    env.rm(&id);
}

#[test]
fn closing_the_terminal_ends_the_command() {
    let env = mock();
    let id = env.start(&[]);
    let sitting = plain_shell(&env, &["exec", "-it", &id]);
    assert_eq!(sitting.closes().code(), Some(129));
    assert!(env.ids().is_empty(), "as after every exec");
    let mut sitting = plain_shell(&env, &["run", "-it"]);
    sitting.types("yes\r");
    sitting.sees("y\r\ny\r\n");
    let code = sitting.closes().code();
    // Ended by the hangup, or by the closed terminal.
    assert!([Some(129), Some(141)].contains(&code), "{code:?}");
    assert!(env.ids().is_empty());
}

#[test]
fn two_keys_leave_a_vm_that_does_not_answer() {
    let env = mock();
    let id = env.start(&[]);
    let mut sitting = plain_shell(&env, &["shell", &id]);
    let vmm = Pid::from_raw(env.vmm(&id));
    kill(vmm, Signal::SIGSTOP).unwrap();
    sitting.types("echo nobody hears me\r~.");
    let (code, screen) = sitting.ends();
    assert_eq!(code, 129);
    assert!(screen.ends_with("> \r\nmayfly: hung up\r\n"), "{screen:?}");
    kill(vmm, Signal::SIGCONT).unwrap();
    env.rm(&id);
}

#[test]
fn escapes_are_listed() {
    let env = mock();
    let id = env.start(&[]);
    let mut sitting = plain_shell(&env, &["shell", &id]);
    sitting.types("~?");
    let listed = sitting.sees("~?   shows this list\r\n");
    assert!(["~.   hangs up", "~^Z ", "~~ "].iter().all(|escape| listed.contains(escape)));
    sitting.types("echo \"<$((6 * 7))>\"\r");
    sitting.sees("<42>\r\n");
    sitting.types("~.");
    assert_eq!(sitting.ends().0, 129);
    env.rm(&id);
}

#[test]
fn a_minute_before_the_vm_expires_its_terminals_say_so() {
    let env = mock();
    let id = env.start(&["--name", "box", "--ttl", "62s"]);
    let mut sitting = plain_shell(&env, &["shell", "box"]);
    let notice = sitting.sees("'mayfly extend box 10m' gives it more time");
    // On the top line, and without scrolling.
    assert!(notice.contains("\u{7}\u{1b}7\u{1b}[H") && !notice.contains('\n'), "{notice:?}");
    assert!(notice.contains("mayfly: this VM expires in 60s; "), "{notice:?}");
    sitting.types("exit\r");
    let (code, screen) = sitting.ends();
    assert_eq!((code, screen.matches("expires in").count()), (0, 1));
    let mut env = env;
    env.set("TERM", "dumb");
    let (_, screen) = env.sit(&["exec", "-t", "--keep", "box", "--", "sleep", "0.3"]).ends();
    assert!(screen.starts_with("\u{7}\r\nmayfly: this VM expires in "), "{screen:?}");
    env.rm(&id);
}

#[test]
fn a_vm_that_is_given_more_time_does_not_warn() {
    let env = mock();
    let id = env.start(&["--ttl", "63s"]);
    let mut sitting = plain_shell(&env, &["shell", &id]);
    env.run(&["extend", &id, "10m"]).prints(&format!("{id}\n"));
    // Longer than until the warning.
    sitting.types("sleep 4; echo \"<$((6 * 7))>\"; exit\r");
    let (code, screen) = sitting.ends();
    assert_eq!(code, 0);
    assert!(screen.contains("<42>") && !screen.contains("expires in"), "{screen:?}");
    env.rm(&id);
}

#[test]
fn ctrl_c_gets_through_a_flood() {
    let env = mock();
    let id = env.start(&[]);
    let mut sitting = plain_shell(&env, &["shell", &id]);
    sitting.types("yes\r");
    sitting.sees("y\r\ny\r\n");
    sitting.types("\u{3}");
    sitting.types("echo \"<$((6 * 7))>\"; exit\r");
    sitting.sees("<42>\r\n");
    assert_eq!(sitting.ends().0, 0);
    env.rm(&id);
}

#[test]
fn mayfly_can_be_suspended_and_resumed() {
    let env = mock();
    let id = env.start(&[]);
    // A shell with job control runs mayfly as its foreground job, which is stopped and resumed.
    let script = format!(
        "set -m; mayfly shell -e 'PS1=> ' {id} -- sh; echo first $?; stty; fg; \
         echo second $?; fg; echo third $?"
    );
    let mut sitting = Sitting::start(env.client("bash", &["--norc", "-c", &script]));
    sitting.sees("> ");
    sitting.types("~\u{1a}");
    // Stopped: 128 and SIGTSTP.
    sitting.sees("first 148\r\n");
    eventually("raw again", || !sitting.is_as_before());
    sitting.types("echo \"<$((6 * 7))>\"\r");
    sitting.sees("<42>\r\n");
    // SIGTSTP from another process.
    let job = processes::with_environment(
        format!("MAYFLY_STATE_DIR={}", env.state().display()).as_bytes(),
    );
    let (pid, _) = job
        .into_iter()
        .find(|(_, line)| line.contains(" shell -e ") && !line.starts_with("bash"))
        .unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTSTP).unwrap();
    sitting.sees("second 148\r\n");
    eventually("raw again", || !sitting.is_as_before());
    sitting.types("exit 3\r");
    sitting.sees("third 3\r\n");
    assert_eq!(sitting.ends().0, 0);
    env.rm(&id);
}

#[test]
fn ctrl_d_before_the_command_runs_is_ignored() {
    let env = mock();
    let id = env.start(&["--keep"]);
    let go = env.root().join("go");
    let script = format!(
        "until test -e {}; do sleep 0.01; done; exec mayfly exec -t {id} -- sh -c 'read line; echo $line'",
        go.display(),
    );
    let mut sitting = Sitting::start(env.client("sh", &["-c", &script]));
    sitting.types("\u{4}");
    std::fs::write(go, "").unwrap();
    sitting.types("typed ahead\r");
    let (code, screen) = sitting.ends();
    assert_eq!(code, 0);
    assert!(screen.ends_with("typed ahead\r\n"), "{screen:?}");
    env.rm(&id);
}
