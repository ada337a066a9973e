//! `mayfly logs`. On mock, the log of a VM is its agent's output.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use mayfly::host::log;
use serde_json::json;

use crate::support::environment::Environment;
use crate::support::processes::eventually;
use crate::support::terminal;

fn log_of(env: &Environment, id: &str) -> PathBuf {
    env.state().join("vms").join(id).join("vmm.log")
}

/// Appends to the VM's log.
fn say(env: &Environment, id: &str, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(log_of(env, id)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_log_exists_from_the_first_start_until_the_vm_is_deleted() {
    let env = Environment::mock();
    let id = env.create(&["--name", "ci"]);
    env.run(&["logs", "ci"]).prints("");
    env.run(&["logs", "-f", "ci"]).prints("");
    env.run(&["start", "ci"]).prints("ci\n");
    env.run(&["logs", "ci"]).prints("");
    say(&env, &id, b"one\ntwo\nthree\n");
    for (flags, expected) in [
        (&[][..], "one\ntwo\nthree\n"),
        (&["--vmm"], "one\ntwo\nthree\n"),
        (&["-n", "2"], "two\nthree\n"),
        (&["--tail", "0"], ""),
        (&["--tail=9"], "one\ntwo\nthree\n"),
        (&["--raw", "-n1"], "three\n"),
    ] {
        env.run(&[&["logs", "ci"], flags].concat()).prints(expected);
    }
    let json = env.run(&["logs", "--json", "-n", "1", "ci"]).json();
    let expected =
        json!({"vm_id": id, "log": "console", "text": "three\n", "text_encoding": "utf-8"});
    assert_eq!(json, expected);
    env.run(&["stop", "ci"]).prints("ci\n");
    env.run(&["logs", "-n", "1", "ci"]).prints("three\n");
    env.run(&["logs", "-f", "-n", "1", "ci"]).prints("three\n");
    // Also when it has expired; reading deletes nothing.
    env.expire(&id);
    env.run(&["logs", "-n", "1", "ci"]).prints("three\n");
    assert_eq!(env.ids(), [id.as_str()]);
    env.rm("ci");
    env.run(&["logs", "ci"]).fails(3, "mayfly: no VM \"ci\"\n[..]");
}

#[test]
fn denials_of_the_network_are_sentences_with_the_rule_that_would_allow_them() {
    let env = Environment::mock();
    let id = env.create(&["--name", "ci"]);
    env.run(&["logs", "--net", "ci"]).prints("");
    let log = env.state().join("vms").join(&id).join("network.log");
    let event = |denied: u64, rest: &str| format!("{{\"time\":60.5,\"denied\":{denied}{rest}}}\n");
    let a = r#","kind":"tcp","to":"a.example:443","reason":"not_allowed","allow":"a.example:443""#;
    let b =
        r#","kind":"tcp","to":"10.0.0.1:80","reason":{"special":"private"},"allow":"10.0.0.1:80""#;
    let text = [&event(1, a), &event(3, ""), "\x1b[31mpanicked\n", &event(4, b)].concat();
    fs::write(&log, text).unwrap();
    let lines = [
        "1970-01-01T00:01:00Z denied a.example:443; allow it with --allow a.example:443\n",
        "1970-01-01T00:01:00Z denied 2 more, repeated or too many to list\n",
        "\\u{1b}[31mpanicked\n",
        "1970-01-01T00:01:00Z denied 10.0.0.1:80, a private address; allow it with --allow 10.0.0.1:80\n",
    ];
    env.run(&["logs", "--net", "ci"]).prints(&lines.concat());
    env.run(&["logs", "--net", "-n", "2", "ci"]).prints(&lines[2..].concat());
    env.run(&["logs", "--net", "-f", "-n", "1", "ci"]).prints(lines[3]);
    let entries = env.run(&["logs", "--net", "--json", "-n", "2", "ci"]).json();
    let none = serde_json::Value::Null;
    let expected = json!([
        {
            "time": none, "denied": 0, "kind": none, "to": none, "reason": none, "allow": none,
            "text": "\u{1b}[31mpanicked",
        },
        {
            "time": 60.5, "denied": 1, "kind": "tcp", "to": "10.0.0.1:80", "reason": "private",
            "allow": "10.0.0.1:80", "text": none,
        },
    ]);
    assert_eq!(entries, expected);
    env.run(&["logs", "--net", "--vmm", "ci"]).fails(2, "mayfly: [..]\n[..]");
    env.clear();
}

#[test]
fn a_flood_of_denials_is_trimmed_by_reap() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let path = env.state().join("vms").join(&id).join("network.log");
    fs::write(&path, "{\"time\":1.0,\"denied\":1}\n".repeat(40_000)).unwrap();
    env.run(&["reap"]).prints("");
    let length = path.metadata().unwrap().len();
    assert_eq!(length, log::MAX_BYTES / 8);
    env.clear();
}

#[test]
fn escape_sequences_of_a_guest_are_escaped() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let hostile = b"\x1b[2J\x1b]0;owned\x07\r\nback\rspace \xff\xc3 \xe2\x80\xaeevil\r\n";
    say(&env, &id, hostile);
    let shown = "\\u{1b}[2J\\u{1b}]0;owned\\u{7}\nback\\u{d}space \\xff\\xc3 \\u{202e}evil\n";
    env.run(&["logs", &id]).prints(shown);
    assert_eq!(env.run(&["logs", "--raw", &id]).stdout, hostile);
    let json = env.run(&["logs", "--json", "--vmm", &id]).json();
    assert_eq!((&json["log"], &json["text_encoding"]), (&"vmm".into(), &"base64".into()));
    // --raw never writes a guest's escape sequences to a terminal.
    let (mut ours, theirs) = terminal::open();
    let mut command = env.command(&["logs", "--raw", &id]);
    command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    drop(command);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--raw does not write to a term"));
    let mut seen = Vec::new();
    let _ = ours.read_to_end(&mut seen);
    assert_eq!(seen, b"");
    for flags in [["--json", "-f"], ["--json", "--raw"]] {
        let error = env.run(&[&["logs", &id][..], &flags].concat()).json_error(2);
        assert_eq!(
            error["message"],
            "--json prints the log as one value: it cannot be used with -f or --raw"
        );
    }
    for (count, message) in [
        ("-1", "unexpected argument '-1' found"),
        ("some", "--tail: \"some\" is not a whole number"),
    ] {
        let said = format!("mayfly: {message}\nhint: 'mayfly logs --help' shows the usage\n");
        env.run(&["logs", &id, "-n", count]).fails(2, &said);
    }
    env.rm(&id);
}

#[test]
fn a_log_is_followed_until_the_vm_ends_even_if_shortened() {
    let env = Environment::mock();
    let id = env.start(&[]);
    say(&env, &id, b"zero\none\n");
    let mut live = env.live(&["logs", "-f", "-n", "1", &id]);
    live.says("one\n");
    let mut expected = String::from("one\n");
    let mut line = 0;
    for _ in 0..3 {
        let before = expected.len();
        while expected.len() < before + log::MAX_BYTES as usize / 2 + 1000 {
            line += 1;
            expected += &format!("line {line}\n");
        }
        say(&env, &id, &expected.as_bytes()[before..]);
        live.says(&format!("line {line}\n"));
        env.run(&["reap"]).prints("");
        assert!(fs::metadata(log_of(&env, &id)).unwrap().len() < log::MAX_BYTES / 2);
    }
    // The first bytes of a character, and the rest later.
    say(&env, &id, b"last \xe6\xbc");
    live.says("last ");
    say(&env, &id, b"\xa2\r");
    live.says("漢");
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    let answer = live.end();
    assert_eq!((answer.code(), answer.stderr()), (0, ""));
    let said = answer.stdout();
    assert!(said == expected + "last 漢\\u{d}", "{} bytes", said.len());
    env.rm(&id);
}

#[test]
fn following_ends_with_the_vm_its_reader_or_a_signal() {
    let env = Environment::mock();
    let id = env.start(&[]);
    say(&env, &id, b"here\n");
    let follow = || {
        let mut live = env.live(&["logs", "-f", &id]);
        live.says("here\n");
        live
    };
    let (deleted, interrupted) = (follow(), follow());
    interrupted.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(interrupted.end().code(), -2, "as any program that is interrupted");
    // The reader is gone, and the VM prints nothing.
    let mut command = env.command(&["logs", "-f", &id]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 5]).unwrap();
    drop(stdout);
    eventually("its end", || child.try_wait().unwrap().is_some_and(|status| status.success()));
    env.rm(&id);
    deleted.end().prints("here\n");
}

#[test]
fn a_link_in_a_logs_place_is_not_followed() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let log = log_of(&env, &id);
    let secret = env.file("secret", "canary\n");
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(secret, &log).unwrap();
    for flags in [&[][..], &["-f"]] {
        env.run(&[&["logs", &id], flags].concat()).fails(1, "mayfly: cannot read [..]");
    }
    fs::remove_file(&log).unwrap();
    File::create(&log).unwrap();
    env.rm(&id);
}
