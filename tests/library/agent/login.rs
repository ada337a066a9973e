//! Login shells: what their profiles may change, and what they may not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use mayfly::protocol::{ExecProgram, ExecRequest, TerminalRequest, WindowSize, WireText};

use super::harness::{Agent, run, stdout, try_run};

/// What a profile does: it sets variables, one of them for good, and prepares the shell.
const PROFILE: &str = "export PATH=/profile:$PATH A=profile LIBRARY=profile; readonly FIXED=profile; \
    export FIXED; umask 027; greet() { echo hello; }; tool=$(id -u); \
    PROMPT_COMMAND=\"echo prompted;${PROMPT_COMMAND-}\"\n";

/// An agent whose user has that profile.
fn agent() -> Agent {
    let agent = Agent::start();
    fs::write(agent.dir.path().join(".profile"), PROFILE).unwrap();
    agent
}

/// A directory with nothing but a shell.
fn only(agent: &Agent, shell: &str) -> PathBuf {
    let directory = agent.dir.path().join(format!("only-{shell}"));
    fs::create_dir(&directory).unwrap();
    let name = if shell == "bash" { "bash" } else { "sh" };
    symlink(format!("/bin/{shell}"), directory.join(name)).unwrap();
    directory
}

fn given(env: &[(&str, &str)]) -> Vec<(WireText, WireText)> {
    env.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

fn shell(line: &str, env: &[(&str, &str)]) -> ExecRequest {
    let program = ExecProgram::Shell(line.into());
    ExecRequest { env: given(env), ..ExecRequest::of(program) }
}

#[test]
fn a_given_variable_wins_over_a_profile_that_is_otherwise_obeyed() {
    let agent = agent();
    let line =
        "echo \"$PATH $A $LIBRARY $FIXED\"; umask; greet; echo \"$tool\"; echo $- ${LINENO-1}";
    for name in ["bash", "dash"] {
        let path = only(&agent, name);
        let path = path.to_str().unwrap();
        let env = [("PATH", path), ("A", "given"), ("FIXED", "given"), ("PWD", "/x")];
        let outcome = run(&mut agent.session(), &shell(line, &env));
        let uid = nix::unistd::geteuid();
        let printed = stdout(&outcome);
        let expected = format!("{path} given profile profile\n0027\nhello\n{uid}\n");
        assert!(printed.starts_with(&expected), "{name}: {printed}");
        assert!(outcome.stderr.bytes.is_empty(), "{name}: {outcome:?}");
    }
    // Without any, the profile decides.
    let outcome = run(&mut agent.session(), &shell("echo ${PATH%%:*} $A", &[]));
    assert_eq!(stdout(&outcome), "/profile profile\n");
}

#[test]
fn a_path_without_a_shell_runs_the_line_all_the_same() {
    let outcome = run(&mut agent().session(), &shell("echo $PATH", &[("PATH", "/no/where")]));
    assert_eq!((stdout(&outcome), outcome.exit.code()), ("/no/where\n", 0));
}

#[test]
fn values_of_any_bytes_arrive_and_nothing_else_changes() {
    let agent = agent();
    let mut bytes: Vec<u8> = (1..=255).collect();
    bytes.extend(b"'\\''\"$(echo x)`id`\n\n");
    let mut env = given(&[("odd.name", "kept"), ("EMPTY", "")]);
    env.push(("A".into(), WireText(bytes.clone())));
    env.push(("LONG".into(), WireText(vec![b'\''; 100_000])));
    for name in ["bash", "dash"] {
        let path = only(&agent, name).join("");
        env.push(("PATH".into(), path.to_str().unwrap().into()));
        let line = "printf '%s' \"$A\"; echo \"<${EMPTY-unset}>${#LONG}\"; \
                    PATH=/usr/bin:/bin; ls /proc/self/fd | wc -l; tr '\\0' '\\n' < /proc/$$/cmdline | wc -c; \
                    env | grep -c -e SCRIPT -e PROMPT_COMMAND; [ ! -t 0 ]; exit 7";
        let request = ExecRequest { env: env.clone(), ..shell(line, &[]) };
        let outcome = run(&mut agent.session(), &request);
        let rest = outcome
            .stdout
            .bytes
            .strip_prefix(&bytes[..])
            .unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        let rest = String::from_utf8_lossy(rest);
        let lines: Vec<&str> = rest.lines().collect();
        // The arguments hold no values, or they would be far longer.
        assert_eq!(lines[..2], ["<>100000", "4"], "{name}");
        assert!(lines[2].parse::<usize>().unwrap() < 500, "{name}: {rest}");
        assert_eq!((lines[3], outcome.exit.code()), ("0", 7), "{name}");
    }
}

#[test]
fn an_interactive_login_shell_keeps_given_variables_and_is_one() {
    let agent = agent();
    let request = ExecRequest {
        env: given(&[("PATH", "/given:/usr/bin:/bin"), ("A", "given"), ("PS1", "> ")]),
        tty: Some(TerminalRequest {
            size: WindowSize { rows: 24, columns: 80 },
            name: "xterm".into(),
        }),
        stdin: true,
        ..ExecRequest::of(ExecProgram::Login)
    };
    let (reader, mut writer) = std::io::pipe().unwrap();
    let line = "echo \"<$PATH $A ${0%%[a-z]*}>\"; greet; ls /proc/self/fd | wc -l; \
                env | grep PROMPT_; exit 3\n";
    writer.write_all(line.as_bytes()).unwrap();
    let outcome = try_run(&mut agent.session(), &request, Some(reader.into())).unwrap();
    let printed = String::from_utf8_lossy(&outcome.stdout.bytes).into_owned();
    // The profile's own prompt command is kept.
    let expected =
        "</given:/usr/bin:/bin given ->\r\nhello\r\n4\r\nPROMPT_COMMAND=echo prompted;:\r\n";
    assert!(printed.contains(expected), "{printed:?}");
    assert!(printed.contains("prompted\r\n") && !printed.contains("No such file"), "{printed:?}");
    assert_eq!(outcome.exit.code(), 3);
}
