//! Standard streams that are full, closed, not open for writing, or non-blocking.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::{ioctl_fionbio, ioctl_fionread};

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::eventually;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unwritable {
    Full,
    Closed,
    ReadOnly,
}

const UNWRITABLE: [Unwritable; 3] = [Unwritable::Full, Unwritable::Closed, Unwritable::ReadOnly];

fn end(mut command: Command, how: Unwritable) -> Answer {
    let stdout = match how {
        Unwritable::Full => File::options().write(true).open("/dev/full").unwrap().into(),
        Unwritable::ReadOnly => File::open("/dev/null").unwrap().into(),
        Unwritable::Closed => Stdio::null(),
    };
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    if how == Unwritable::Closed {
        // SAFETY: close is async-signal-safe, and the program that follows has not started.
        unsafe {
            command.pre_exec(|| {
                nix::libc::close(1);
                Ok(())
            });
        }
    }
    Live::start_as_set_up(command).end()
}

#[track_caller]
fn fails(env: &Environment, how: Unwritable, args: &[&str]) -> Answer {
    let answer = end(env.command(args), how);
    let error =
        if how == Unwritable::Full { "No space left on device" } else { "Bad file descriptor" };
    assert!(answer.code() > 0, "{how:?}: {answer}");
    assert!(answer.stderr().contains(error), "{how:?}: {answer}");
    answer
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let env = Environment::mock();
    let id = env.start(&["--keep", "--name", "box"]);
    for how in UNWRITABLE {
        for args in [
            &["--version"][..],
            &["--help"],
            &["-h"],
            &["run", "--help"],
            &["image", "--help"],
            &["completions", "bash"],
            &["help", "run"],
            &["config", "show"],
            &["config", "path"],
            &["profiles"],
            &["profiles", "--json"],
            &["status"],
            &["status", "--json"],
            &["status", &id],
            &["doctor"],
            &["doctor", "--json"],
            &["exec", &id, "--", "echo", "x"],
            &["exec", "--keep", "--all", "--", "echo", "x"],
            &["exec", "--keep", "--all", "--", "printf", "x"],
            &["exec", "--json", &id, "--", "true"],
            &["run", "--", "echo", "x"],
            &["cp", "box:/etc/hostname", "-"],
        ] {
            let _ = fails(&env, how, args);
        }
        let mut completion = env.command(&["--", "mayfly", "sta"]);
        completion.env("MAYFLY_COMPLETE", "bash");
        assert!(end(completion, how).code() > 0);
        // Nothing to write is no failure.
        end(env.command(&["exec", &id, "--", "true"]), how).is(0, "", "");
        end(env.command(&["start", "-q", &id]), how).fails(4, "[..]");
    }
    env.rm(&id);
}

#[test]
fn what_was_done_is_named_on_standard_error() {
    let env = Environment::mock();
    for how in UNWRITABLE {
        for args in [&["create"][..], &["create", "--json"], &["create", "--name", "box"]] {
            let answer = fails(&env, how, args);
            assert!(answer.stderr().contains("the VM is deleted again"), "{answer}");
            assert_eq!(env.ids(), Vec::<String>::new(), "nobody knows its id");
        }
        let id = env.create(&["--keep"]);
        for json in [false, true] {
            let with_json = |args: &[&str]| {
                let mut args = args.to_vec();
                args.extend(json.then_some("--json"));
                fails(&env, how, &args).stderr().to_owned()
            };
            assert!(with_json(&["start", &id]).contains(&id));
            assert_eq!(env.status(&id)["state"], "started");
            assert!(with_json(&["extend", &id, "30m"]).contains(&id));
            let name = if json { "two" } else { "one" };
            assert!(with_json(&["rename", &id, name]).contains(name));
            assert!(with_json(&["stop", name]).contains(name));
        }
        let ran = fails(&env, how, &["run", "--json", "--", "sh", "-c", "exit 3"]);
        assert!(ran.stderr().contains("ended with 3"), "{ran}");
        env.expire(&id);
        let reaped = fails(&env, how, &["reap"]);
        assert!(reaped.stderr().contains("mayfly: deleted VM two\n"), "{reaped}");
        let other = env.create(&[]);
        assert!(fails(&env, how, &["rm", &other]).stderr().contains(&other));
        assert!(env.ids().is_empty());
    }
}

#[test]
fn what_was_made_is_named_on_standard_error() {
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    let root = env.root().join("small");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    let import = ["image", "import", root.to_str().unwrap(), "other"];
    for (args, made) in [
        (&["image", "build"][..], "debian-base"),
        (&["image", "build", "--json"], "debian-base"),
        (&["template", "build"], "debian-base-"),
        (&["template", "build", "--json"], "debian-base-"),
        (&import, "other"),
    ] {
        let answer = fails(&env, Unwritable::Full, args);
        assert_eq!(answer.code(), 1, "{answer}");
        assert!(answer.stderr().contains(made), "{answer}");
    }
    env.run(&["template", "ls"]).is(0, "[..]\ndebian-base-[..]", "");
    env.run(&["profiles"]).is(0, "[..]\nother  [..]", "");
    assert!(env.ids().is_empty());
}

/// A pipe whose writing end is non-blocking, as programs get it from node.
fn nonblocking() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (read, write) = std::io::pipe().unwrap();
    ioctl_fionbio(&write, true).unwrap();
    (read, write)
}

#[test]
fn a_nonblocking_output_is_waited_for() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let long = "head -c 300000 /dev/zero | tr '\\0' Q";
    for args in [
        &["exec", "--json", &id, "--", "sh", "-c", long][..],
        &["exec", &id, "--", "sh", "-c", long],
        &["exec", "--keep", "--all", "--", "sh", "-c", long],
    ] {
        for to_stderr in [false, true] {
            if to_stderr && args[1] == "--json" {
                continue;
            }
            let (mut read, write) = nonblocking();
            let mut words: Vec<String> = args.iter().map(ToString::to_string).collect();
            if to_stderr {
                words.last_mut().unwrap().push_str(" >&2");
            }
            let mut command = env.command(&words);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if to_stderr {
                command.stderr(OwnedFd::from(write));
            } else {
                command.stdout(OwnedFd::from(write));
            }
            let mut live = Live::start_as_set_up(command);
            eventually("a full pipe", || {
                ioctl_fionread(&read).unwrap() > 60_000 || !live.is_running()
            });
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            live.end().is(0, "", "");
            // The JSON also has the command.
            let count = text.matches('Q').count();
            assert!((300_000..=300_001).contains(&count), "{args:?}: {count}");
        }
    }
    env.rm(&id);
}

#[test]
fn a_nonblocking_input_is_waited_for() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let archive = {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        tar.append_data(&mut header, "in", &b"abc"[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let variables = b"A=1\nB=2\n".to_vec();
    for (args, input, printed) in [
        (&["exec", "--env-file", "-", &id, "--", "sh", "-c", "echo $A$B"][..], variables, "12\n"),
        (&["exec", "-i", &id, "--", "cat"], b"one two".to_vec(), "one two"),
        (&["cp", "-", &format!("{id}:")], archive, ""),
    ] {
        let (read, mut write) = std::io::pipe().unwrap();
        ioctl_fionbio(&read, true).unwrap();
        let waiting = read.try_clone().unwrap();
        let mut command = env.command(args);
        command.stdin(OwnedFd::from(read)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let live = Live::start_as_set_up(command);
        let (one, two) = input.split_at(input.len() / 2);
        write.write_all(one).unwrap();
        // It has read everything, and the next read finds nothing.
        eventually("reading", || ioctl_fionread(&waiting).unwrap() == 0);
        write.write_all(two).unwrap();
        drop(write);
        live.end().is(0, printed, "");
    }
    env.run(&["exec", &id, "--", "cat", "in"]).prints("abc");
    env.rm(&id);
}
