//! `mayfly exec`: streams, exit codes, flags.

use crate::support::environment::Environment;
use crate::support::processes::{eventually, lives};

#[test]
fn streams_stay_apart_and_the_code_is_the_commands() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.run(&["exec", &id, "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
        .is(7, "out\n", "err\n");
    env.run(&["exec", &id, "--", "true"]).prints("");
    env.run(&["exec", &id, "--", "false"]).is(1, "", "");
    env.run(&["exec", &id, "--", "sh", "-c", "exit 255"]).is(255, "", "");
    env.run(&["exec", &id, "--", "sh", "-c", "kill -KILL $$"]).is(137, "", "");
    env.run(&["exec", &id, "--", "sh", "-c", "kill -TERM $$"]).is(143, "", "");
    env.rm(&id);
}

#[test]
fn codes_that_mean_something_of_mayflys_can_be_the_commands_too() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    for code in [2, 3, 4, 5, 6, 124, 125, 126, 127, 130] {
        env.run(&["exec", &id, "-c", &format!("exit {code}")]).is(code, "", "");
    }
    env.rm(&id);
}

#[test]
fn what_cannot_start_is_127_or_126_and_says_why() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.run(&["exec", &id, "--", "no-such-program"])
        .fails(127, "mayfly: no-such-program: not found\n");
    env.run(&["exec", &id, "--", "/"]).fails(126, "mayfly: /: [..]\n");
    env.run(&["exec", &id, "-w", "/no/where", "--", "true"])
        .fails(126, "mayfly: [..]/no/where[..]\n");
    env.run(&["exec", &id, "-u", "no-such-user", "--", "true"])
        .fails(126, "mayfly: [..]no-such-user[..]\n");
    env.rm(&id);
}

#[test]
fn after_a_command_the_vm_is_deleted_whatever_its_code() {
    let env = Environment::mock();
    for (command, code) in
        [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("no-such-program", 127)]
    {
        let id = env.start(&[]);
        let answer = env.run(&["exec", &id, "-c", command]);
        assert_eq!(answer.code(), code, "{answer}");
        assert!(env.ids().is_empty());
    }
    let id = env.start(&[]);
    env.run(&["exec", &id, "--", "no-such-program"])
        .fails(127, "mayfly: no-such-program: not found\n");
    assert!(env.ids().is_empty(), "a VM is deleted even if its command was not found");
}

#[test]
fn mayflys_own_failure_keeps_the_vm() {
    let env = Environment::mock();
    let id = env.create(&[]);
    env.run(&["exec", &id, "--", "true"]).fails(125, "[..]not started[..]");
    env.run(&["exec", &id, "-t", "--", "true"])
        .fails(125, "mayfly: '-t' needs a terminal, and standard input is not one\nhint: [..]\n");
    env.run(&["exec", &id, "--timeout", "0", "--", "true"])
        .fails(125, "mayfly: --timeout must be positive\n");
    assert_eq!(env.ids(), [id.as_str()]);
    env.rm(&id);
}

#[test]
fn environment_directory_and_user_reach_the_command() {
    let mut env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.run(&[
        "exec",
        &id,
        "-e",
        "A=1",
        "-e",
        "B=two words",
        "--env",
        "C=",
        "--",
        "sh",
        "-c",
        "echo $A-$B-$C-",
    ])
    .prints("1-two words--\n");
    env.set("FROM_HOST", "handed on");
    env.run(&["exec", &id, "-e", "FROM_HOST", "-c", "echo $FROM_HOST"]).prints("handed on\n");
    env.run(&["exec", &id, "-c", "echo ${FROM_HOST-unset}"]).prints("unset\n");
    env.run(&["exec", &id, "-e", "NOT_SET_HERE", "--", "true"]).fails(
        125,
        "mayfly: '-e NOT_SET_HERE' names a variable that is not set here\nhint: [..]\n",
    );
    env.run(&["exec", &id, "-e", "=x", "--", "true"])
        .fails(125, "mayfly: '-e' has no name before '='\n[..]");
    env.run(&["exec", &id, "-w", "/usr", "--", "pwd"]).prints("/usr\n");
    env.rm(&id);
}

#[test]
fn a_string_is_run_by_a_login_bash() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.run(&["exec", &id, "-c", "shopt -q login_shell && echo ${BASH##*/} $0"])
        .prints("bash bash\n");
    env.run(&["exec", &id, "-c", "false | true; echo ${PIPESTATUS[0]}"]).prints("1\n");
    // Exactly one of -c and a command is needed.
    env.run(&["exec", &id, "-c", "true", "--", "true"]).fails(
        125,
        "mayfly: the argument '--command <STRING>' cannot be used with '[CMD]...'\n\
         hint: 'mayfly exec --help' shows the usage\n",
    );
    let shell = format!("hint: 'mayfly shell {id}' gives you a shell, and keeps the VM\n");
    env.run(&["exec", &id]).fails(125, &format!("mayfly: no command given\n{shell}"));
    env.rm(&id);
}

#[test]
fn arguments_arrive_as_they_are() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let odd = ["a b", "", "*", "--", "-x", "$HOME", "'\"", "\n", "ü"];
    let args = [&["exec", &id, "--", "printf", "<%s>"], &odd[..]].concat();
    env.run(&args).prints("<a b><><*><--><-x><$HOME><'\"><\n><ü>");
    // Flags after '--' are the command's.
    env.run(&["exec", &id, "--", "echo", "--json", "-v", "--keep"]).prints("--json -v --keep\n");
    env.rm(&id);
}

#[test]
fn standard_input_goes_in_only_with_i() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.feed(&["exec", "-i", &id, "--", "cat"], b"in").prints("in");
    env.feed(&["exec", &id, "--", "cat"], b"in").prints("");
    env.feed(&["exec", "-i", &id, "--", "true"], &vec![b'x'; 1 << 20]).prints("");
    env.feed(&["exec", "-i", &id, "--", "head", "-c", "3"], &vec![b'x'; 1 << 20]).prints("xxx");
    env.rm(&id);
}

#[test]
fn a_timeout_keeps_the_output_and_says_so_last() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.run(&["exec", "--timeout", "1", &id, "-c", "echo begun; echo trouble >&2; sleep 999"]).is(
        124,
        "begun\n",
        "trouble\nmayfly: command timed out after 1s\n",
    );
    env.run(&["exec", "--timeout", "1m", &id, "-c", "echo in time"]).prints("in time\n");
    env.run(&["exec", "--timeout", "never", &id, "--", "true"]).fails(
        125,
        "mayfly: --timeout: \"never\" is not a duration\n\
         hint: give a number with a unit, such as 90s, 10m or 1h30m\n",
    );
    env.rm(&id);
}

#[test]
fn a_timeout_kills_a_command_whose_name_is_not_utf8() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let script = r#"n=$(printf 'x\377'); cp "$(command -v sleep)" "$n"; echo $$; exec "./$n" 999"#;
    let answer = env.run(&["exec", "--timeout", "1", &id, "-c", script]);
    assert_eq!(answer.code(), 124, "{answer}");
    let pid: i32 = answer.stdout().trim().parse().unwrap();
    eventually("the end of the command", || !lives(pid));
    env.rm(&id);
}
