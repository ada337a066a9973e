//! Colours: only on terminals that support them, unless the user says otherwise.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::terminal;

const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const BOLD: &str = "\u{1b}[1m";

/// A command's output on a terminal, including errors.
#[track_caller]
fn shown(env: &Environment, args: &[&str], code: i32) -> String {
    let (master, slave) = terminal::open();
    let mut command = env.command(args);
    let stream = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(Stdio::null()).stdout(stream()).stderr(stream());
    let running = Live::start_as_set_up(command);
    drop(slave);
    let text = all(master);
    let answer = running.end();
    assert_eq!(answer.code(), code, "{text:?}");
    text
}

/// Reads until no process has the terminal open, which is an error.
fn all(mut master: File) -> String {
    let mut bytes = Vec::new();
    let _ = master.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn on_terminal() -> Environment {
    let mut env = Environment::mock();
    env.set("TERM", "xterm-256color");
    env
}

#[test]
fn a_terminal_gets_colours() {
    let env = on_terminal();
    let id = env.start(&[]);
    let table = shown(&env, &["status"], 0);
    assert!(table.contains(&format!("{BOLD}{GREEN}started")), "{table:?}");
    let error = shown(&env, &["status", "nope"], 3);
    assert!(error.starts_with(&format!("{BOLD}{RED}mayfly:")), "{error:?}");
    assert!(shown(&env, &["--nonsense"], 2).contains(RED));
    assert!(shown(&env, &["--help"], 0).contains(BOLD));
    assert!(shown(&env, &["doctor"], 0).contains(GREEN));
    env.rm(&id);
}

#[test]
fn colours_are_all_that_is_added() {
    let env = on_terminal();
    let id = env.start(&[]);
    let plain = env.run(&["status", "--color", "never"]).line();
    let mut colored = env.run(&["status", "--color", "always"]).line();
    assert!(colored.contains(GREEN));
    for style in [BOLD, GREEN, "\u{1b}[0m"] {
        colored = colored.replace(style, "");
    }
    assert_eq!(colored, plain);
    env.rm(&id);
}

#[test]
fn colours_can_be_turned_off() {
    let commands = [
        (&["status", "nope"][..], 3),
        (&["--nonsense"], 2),
        (&["--help"], 0),
        (&["doctor"], 0),
        (&["status"], 0),
    ];
    let none = |env: &Environment, flag: &[&str]| {
        for (args, code) in commands {
            let text = shown(env, &[flag, args].concat(), code);
            assert!(!text.contains('\u{1b}'), "{args:?}: {text:?}");
        }
    };
    none(&on_terminal(), &["--color", "never"]);
    none(&on_terminal(), &["--color=never"]);
    for (variable, value) in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let mut env = on_terminal();
        env.set(variable, value);
        none(&env, &[]);
    }
    // TERM is not set.
    none(&Environment::mock(), &[]);
}

#[test]
fn a_pipe_gets_no_colours_unless_asked_for() {
    let mut env = on_terminal();
    let plain = |env: &Environment, args: &[&str]| {
        let answer = env.run(args);
        !answer.stdout().contains('\u{1b}') && !answer.stderr().contains('\u{1b}')
    };
    for args in [&["status", "nope"][..], &["--nonsense"], &["--help"], &["doctor"]] {
        assert!(plain(&env, args), "{args:?}");
        // A flag overrides variables.
        env.set("NO_COLOR", "1");
        assert!(!plain(&env, &[&["--color", "always"], args].concat()), "{args:?}");
        env.unset("NO_COLOR");
        env.set("CLICOLOR_FORCE", "1");
        assert!(!plain(&env, args), "{args:?}");
        env.unset("CLICOLOR_FORCE");
    }
}

#[test]
fn neither_json_nor_a_command_in_a_vm_is_coloured() {
    let env = on_terminal();
    env.run(&["--color", "always", "--json", "doctor"]).json();
    env.run(&["--color", "always", "--json", "status", "nope"]).json_error(3);
    env.run(&["--color", "always", "run", "--", "echo", "--color"]).prints("--color\n");
    // After '--', it is the command's flag.
    env.run(&["run", "--nonsense", "--", "ls", "--color=always"]).fails(
        125,
        "mayfly: unexpected argument '--nonsense' found\n\
         hint: 'mayfly run --help' shows the usage\n",
    );
}
