//! `--env-file`.

use crate::support::environment::Environment;

/// The variables of a command that runs with these flags.
const SHOW: [&str; 4] = ["--", "sh", "-c", "env | grep ^X_ | sort"];

#[test]
fn variables_come_from_files_and_flags_win() {
    let mut env = Environment::mock();
    env.set("X_HERE", "here");
    let first = env.file("first", "# no variable\nX_A=1\nX_B='two words'\n\nX_HERE\nX_NOT_HERE\n");
    let second = env.file("second", "X_B=second\nX_C=a=b # all of it\r\n");
    let files = ["--env-file", first.to_str().unwrap(), "--env-file", second.to_str().unwrap()];
    let run = |flags: &[&str]| env.run(&[&["run"], flags, &SHOW].concat());
    run(&files).prints("X_A=1\nX_B=second\nX_C=a=b # all of it\nX_HERE=here\n");
    // The order of the flags does not matter.
    let args = [&["-e", "X_A=flag"], &files[..], &["-e", "X_C=flag"]].concat();
    run(&args).prints("X_A=flag\nX_B=second\nX_C=flag\nX_HERE=here\n");
    let args = [&["run", "--env-file", "-"], &SHOW[..]].concat();
    env.feed(&args, b"X_A=from stdin").prints("X_A=from stdin\n");
}

#[test]
fn mistakes_name_the_line_and_do_not_quote_it() {
    let env = Environment::mock();
    let run = |file: &str| env.run(&["run", "--env-file", file, "--", "true"]);
    for (text, why) in [
        ("A=1\n=hunter2\n", "line 2 of [..]file has no name before '='"),
        ("MY hunter2=1\n", "line 1 of [..]file has a blank in its name"),
        ("A=hunter2\0\n", "line 1 of [..]file contains a null byte"),
    ] {
        let file = env.file("file", text);
        let answer = run(file.to_str().unwrap());
        answer.fails(125, &format!("mayfly: {why}\nhint: write KEY=VALUE\n"));
        assert!(!answer.stderr().contains("hunter2"));
    }
    run("no-such").fails(125, "mayfly: cannot read no-such: No such file[..]\n");
    let long = env.file("long", &format!("A={}", "x".repeat(1 << 20)));
    run(long.to_str().unwrap())
        .fails(125, "mayfly: [..]long is larger than the limit of 1024 KiB\n");
    assert!(!env.state().exists(), "nothing was begun");
}
