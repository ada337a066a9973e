//! Terminals in a VM.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Bench, Vm};
use crate::support::terminal::Sitting;

fn sit(vm: &Vm<'_>, args: &[&str]) -> Sitting {
    let mut command = vm.env.command(&[&["shell", &vm.id, "-e", "PS1=> "], args].concat());
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    Sitting::start(command)
}

pub fn a_shell_has_a_terminal_and_restores_it(bench: &Bench) {
    let vm = bench.vm();
    let mut sitting = sit(&vm, &["--", "sh"]);
    sitting.sees("> ");
    sitting.types("stty size; echo $TERM; tty\r");
    sitting.sees("24 80\r\nxterm\r\n/dev/pts/");
    sitting.resize(30, 100);
    // The subshell runs before it prints something. What is typed while a shell starts a program may reach either.
    sitting.types("(stty size; exec sleep 4301)\r");
    sitting.sees("30 100\r\n");
    sitting.types("\u{3}");
    sitting.types("echo ended with $?; (echo now; sleep 4302)\r");
    sitting.sees("ended with 130\r\nnow\r\n");
    sitting.types("\u{1a}");
    sitting.sees("Stopped");
    sitting.types("kill -KILL %1; wait; less /etc/passwd\r");
    sitting.sees("\u{1b}[?1049h");
    sitting.sees("root");
    sitting.types("q");
    sitting.sees("\u{1b}[?1049l");
    // Until the prompt appears, typed text may still reach less.
    sitting.sees("> ");
    sitting.types("(exit 7)\r\u{4}");
    assert_eq!(sitting.ends().0, 7);
    assert_eq!(vm.env.status(&vm.id)["state"], "started");

    if bench.is_machine {
        login_shells(&vm);
    }

    let mut sitting = sit(&vm, &["--", "sh"]);
    sitting.sees("> ");
    kill(Pid::from_raw(vm.env.vmm(&vm.id)), Signal::SIGKILL).unwrap();
    let (code, screen) = sitting.ends();
    assert_eq!(code, 125);
    assert!(screen.contains("\r\nmayfly: the agent went away"), "{screen:?}");
}

/// A shell without a command is the login shell of its user, who owns the terminal.
fn login_shells(vm: &Vm<'_>) {
    let users = "one:x:1301:1301::/tmp:/bin/bash\ntwo:x:1302:1302::/tmp:/no/such/shell";
    vm.sh(&format!("echo '{users}' >> /etc/passwd")).prints("");
    for (user, shell, program) in [("one", "/bin/bash", "-bash"), ("two", "/bin/sh", "-sh")] {
        let mut sitting = sit(vm, &["-u", user]);
        sitting.types("echo \"<$USER $SHELL $0 $(stat -c %U $(tty))>\"; exit\r");
        sitting.sees(&format!("<{user} {shell} {program} {user}>"));
        assert_eq!(sitting.ends().0, 0);
    }
}
