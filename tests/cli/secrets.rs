//! Secrets and variables of a command are in no other file, command line or environment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::canary::Canary;
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes;

/// An environment with secrets: on mock, they need a runtime directory in memory.
fn in_memory() -> Environment {
    let mut env = Environment::mock();
    env.keep_runtime_in_memory();
    env
}

/// bash with that script, and the directory and variables of `command`.
fn with_shell(command: &Command, script: &str) -> Command {
    let mut bash = Command::new("bash");
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    bash.args(["-c", script]).env_clear().envs(variables);
    bash.current_dir(command.get_current_dir().unwrap());
    bash
}

#[test]
fn a_variable_is_in_the_commands_environment_and_nowhere_else() {
    let mut env = Environment::mock();
    let token = Canary::new(env.root(), "token", "", "");
    env.set("TOKEN", &token.text);
    let id = env.start(&["--keep"]);
    // Only the name of the variable is in mayfly's arguments.
    let mut exec = env.live(&[
        "exec",
        "-i",
        "-e",
        "TOKEN",
        &id,
        "--",
        "sh",
        "-c",
        "echo ${#TOKEN}; read wait",
    ]);
    exec.says(&token.text.len().to_string());
    // mayfly and the command have the variable; the agent does not.
    let pid = exec.pid();
    let told = |other| other == pid || processes::command_line(other).starts_with("sh -c");
    assert_eq!(token.places(&[env.root().to_owned()], &told), [""; 0]);
    exec.write(b"\n");
    exec.end().prints(&format!("{}\n", token.text.len()));
    assert_eq!(token.places(&[env.root().to_owned()], &|_| false), [""; 0]);
    env.clear();
}

#[test]
fn a_secret_is_in_no_answer_and_no_error() {
    let env = in_memory();
    let secret = Canary::new(env.root(), "secret", "", "");
    let given = format!("token={}", secret.file.display());
    let cases: [&[&str]; 4] = [
        &["--json", "--", "true"],
        &["-v", "--", "true"],
        &["--", "no-such-program"],
        &["-u", "no-such-user", "--", "true"],
    ];
    for rest in cases {
        let answer = env.run(&[&["run", "--secret", &given], rest].concat());
        let said = format!("{}{}", answer.stdout(), answer.stderr());
        assert!(!said.contains(&secret.text), "{said}");
        assert_eq!(secret.places(&[env.root().to_owned(), env.runtime()], &|_| false), [""; 0]);
    }
}

#[test]
fn a_secret_comes_from_a_file_or_a_pipe_as_it_is() {
    let env = in_memory();
    let id = env.start(&["--keep"]);
    let show = ["-c", "cat $MAYFLY_SECRETS/token"];
    let exec = |flags: &[&str]| [&["exec", &id], flags, &show].concat().join("\u{1}");
    let bytes: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    let flags = exec(&["--secret", "token=-"]);
    let answer = env.feed(&flags.split('\u{1}').collect::<Vec<_>>(), &bytes);
    assert!(answer.code() == 0 && answer.stdout == bytes, "{}", answer.code());
    // bash makes a pipe of <(command).
    let line = format!("exec \"$0\" exec {id} --secret token=<(echo piped) -c '{}'", show[1]);
    let mayfly = env.command::<&str>(&[]);
    let output = with_shell(&mayfly, &line).arg(mayfly.get_program()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "piped\n", "{output:?}");
    env.clear();
}

#[test]
fn an_invalid_secret_is_refused_before_the_command_starts() {
    let env = in_memory();
    let open = env.file("open", "word");
    let empty = env.file("empty", "");
    let good = env.file("good", "word");
    for path in [&empty, &good] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let is = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
    let long = env.root().join("long");
    fs::write(&long, vec![b'x'; 512 * 1024 + 1]).unwrap();
    fs::set_permissions(&long, fs::Permissions::from_mode(0o600)).unwrap();
    let half = env.root().join("half");
    fs::write(&half, vec![b'x'; 256 * 1024]).unwrap();
    fs::set_permissions(&half, fs::Permissions::from_mode(0o600)).unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&["--secret", "hunter2"], "'--secret' must be followed by NAME=FILE\nhint: [..]"),
        (&["--secret", "=x"], "'--secret' must be followed by NAME=FILE\nhint: [..]"),
        (&["--secret", "x="], "'--secret' must be followed by NAME=FILE\nhint: [..]"),
        (&["--secret", "../x=good"], "invalid secret name \"../x\"\nhint: [..]"),
        (&["--secret", "x=no-such"], "cannot read no-such: No such file[..]"),
        (&["--secret", "x=/"], "cannot read /: Is a directory[..]"),
        (
            &["--secret", &is("x", &open)],
            "other users have access to [..]open (mode 0644)\nhint: [..]'chmod 600 [..]open'\n",
        ),
        (&["--secret", &is("x", &empty)], "secret \"x\" is empty: there is nothing in [..]empty\n"),
        (&["--secret", &is("x", &long)], "[..]long is larger than the limit of 512 KiB\n"),
        (
            &["--secret", &is("x", &half), "--secret", &is("y", &half)],
            "the secrets exceed 512 KiB in total\n",
        ),
        (
            &["--secret", &is("x", &good), "--secret", &is("x", &good)],
            "secret \"x\" is given twice\n",
        ),
        (
            &["-i", "--secret", "x=-"],
            "standard input cannot be used for both '-i' and '--secret'\n",
        ),
    ];
    for (flags, expected) in cases {
        let answer = env.run(&[&["run"], flags, &["--", "true"]].concat());
        answer.fails(125, &format!("mayfly: {expected}"));
        assert!(!answer.stderr().contains("hunter2"));
    }
    assert!(!env.state().exists(), "nothing was begun");
}

/// A process of the host has no private directory in memory.
#[test]
fn a_secret_that_would_be_on_a_disk_is_refused() {
    let mut env = Environment::mock();
    let secret = Canary::new(env.root(), "secret", "", "");
    let given = format!("token={}", secret.file.display());
    // If /tmp is a tmpfs, /var/tmp is on a disk.
    let disk = tempfile::Builder::new().prefix("mf-").tempdir_in("/var/tmp").unwrap();
    env.set("MAYFLY_RUNTIME_DIR", disk.path().join("run"));
    let id = env.start(&["--keep"]);
    env.run(&["exec", "--secret", &given, &id, "--", "true"]).fails(
        125,
        "mayfly: the agent cannot run the command: secrets are kept in memory only, but [..] is on a \
         disk; set MAYFLY_RUNTIME_DIR to a directory on a tmpfs\n",
    );
    assert_eq!(
        secret.places(&[env.root().to_owned(), disk.path().to_owned()], &|_| false),
        [""; 0]
    );
    // The VM still works.
    env.run(&["exec", &id, "--", "echo", "well"]).prints("well\n");
    env.rm(&id);
}

#[test]
fn secrets_go_with_their_command_however_it_ends() {
    let env = in_memory();
    let secret = Canary::new(env.root(), "secret", "", "");
    let given = format!("token={}", secret.file.display());
    let there = || secret.places(&[env.runtime()], &|_| false).len();
    let begin = |id: &str| {
        let wait = ["--", "sh", "-c", "echo ready; exec sleep 1000"];
        let mut exec = env.live(&[&["exec", "--secret", &given, id], &wait[..]].concat());
        exec.says("ready");
        assert_eq!(there(), 1);
        exec
    };
    let id = env.start(&["--keep"]);
    // The command times out.
    let timed_out =
        env.run(&["exec", "--timeout", "0.1s", "--secret", &given, &id, "--", "sleep", "9"]);
    assert_eq!((timed_out.code(), there()), (124, 0), "{timed_out}");
    // The client is killed.
    let exec = begin(&id);
    exec.kill();
    processes::eventually("the secret goes with its client", || there() == 0);
    // The VM is stopped, or dies.
    let exec = begin(&id);
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    // Killed by the stop, or disconnected.
    let answer = exec.end();
    assert!([125, 137, 143].contains(&answer.code()), "{answer}");
    assert_eq!(there(), 0);
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    let exec = begin(&id);
    let agent = nix::unistd::Pid::from_raw(env.vmm(&id));
    nix::sys::signal::kill(agent, Signal::SIGKILL).unwrap();
    exec.end().is(125, "ready\n", "mayfly: the agent went away before[..]");
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    assert_eq!(there(), 0);
    env.rm(&id);
}

#[test]
fn a_crash_leaves_no_secret_in_a_core_file() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() != "core" {
        eprintln!("skipped: core files do not go where they are made, but to {pattern}");
        return;
    }
    let env = in_memory();
    let secret = Canary::new(env.root(), "secret", "", "");
    let given = format!("token={}", secret.file.display());
    // Without a secret there is a core file, so there could be one with it.
    for (flags, cores) in [(&[][..], 1), (&["--secret", &given], 0)] {
        let mayfly = env.command(&[&["run"], flags, &["-c", "echo ready; sleep 1000"]].concat());
        let mut command = env.command::<&str>(&[]);
        command = with_shell(&command, "ulimit -c unlimited && exec \"$0\" \"$@\"");
        command.arg(mayfly.get_program()).args(mayfly.get_args());
        let mut run = Live::start(command);
        run.says("ready");
        run.signal(Signal::SIGFPE);
        assert_eq!(run.end().code(), -(Signal::SIGFPE as i32));
        let entries = fs::read_dir(env.root()).unwrap().flatten();
        let found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("core"));
        assert_eq!(found.inspect(|core| fs::remove_file(core.path()).unwrap()).count(), cores);
        let [id] = env.ids().try_into().unwrap();
        env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    }
}

#[test]
fn the_vmm_inherits_no_variable_of_the_callers() {
    let mut env = Environment::mock();
    // Not the text of another test, which searches for it everywhere.
    env.set("TOKEN", "another-canary");
    let id = env.start(&[]);
    let environ = fs::read(format!("/proc/{}/environ", env.vmm(&id))).unwrap();
    let names: Vec<String> = environ
        .split(|&b| b == 0)
        .filter(|variable| !variable.is_empty())
        .map(|variable| String::from_utf8_lossy(variable).split('=').next().unwrap().to_owned())
        .collect();
    for name in &names {
        assert!(
            ["PATH", "HOME", "MAYFLY_VM_DIR", "MAYFLY_VM_PROOF"].contains(&name.as_str()),
            "{names:?}"
        );
    }
    env.clear();
}
