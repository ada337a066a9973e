//! Who is told what a VM is denied on the network, and where.

use crate::bench::Bench;
use crate::support::terminal::Sitting;

/// What is said of an attempt to reach this address.
fn told(address: &str) -> String {
    format!("denied {address}, a private address; allow it with --allow {address}\n")
}

pub fn denials_are_told_to_attached_commands_and_logged(bench: &Bench) {
    if bench.skips("a process of the host has the host's network") {
        return;
    }
    let env = &bench.env;
    let network = ["--allow", "a.example"];
    let id = env.start(&[&["--keep", "--mem", "256M", "--name", "box"], &network[..]].concat());
    let connect = |host: u8| format!("exec 2>/dev/null 3<>/dev/tcp/10.1.2.{host}/80");
    let exec = |flags: &[&str], host: u8| {
        let line = connect(host);
        env.run(&[&["exec"], flags, &["--", "bash", "-c", &line]].concat())
    };
    exec(&["box"], 1).is(1, "", &format!("mayfly: {}", told("10.1.2.1:80")));
    exec(&["-q", "box"], 2).is(1, "", "");
    let answer = exec(&["--json", "box"], 3);
    assert_eq!((answer.json_of(1)["stderr"].as_str(), answer.stderr()), (Some(""), ""));
    let all = exec(&["--all"], 4);
    let prefixed = format!("mayfly: VM box: {}", told("10.1.2.4:80"));
    assert!(all.stderr().contains(&prefixed), "{all}");
    // What was said just now is only counted, but the user of this command has not seen it.
    let again = exec(&["box"], 1);
    let text = again.stderr();
    assert!(text.is_empty() || text.starts_with("mayfly: denied what was denied before"), "{text}");
    // The VM is gone afterwards, and its log with it.
    let line = connect(5);
    let run = ["run", "--mem", "256M", network[0], network[1], "--", "bash", "-c", &line];
    env.run(&run).is(1, "", &format!("mayfly: {}", told("10.1.2.5:80")));

    let mut command = env.command(&["shell", "box", "-e", "PS1=> ", "--", "bash", "--norc"]);
    command.env("TERM", "xterm");
    let mut sitting = Sitting::start(command);
    sitting.sees("> ");
    sitting.types("(exec 3<>/dev/tcp/10.1.2.6/80)\r");
    sitting.sees("\u{1b}7\u{1b}[H\u{1b}[2K\u{1b}[7mmayfly: denied 10.1.2.6:80, a private address;");
    sitting.sees("No route to host");
    sitting.types("exit 3\r");
    let (code, screen) = sitting.ends();
    assert_eq!(code, 3);
    let last = format!("\r\nmayfly: {}", told("10.1.2.6:80").replace('\n', "\r\n"));
    assert!(screen.ends_with(&last), "{screen:?}");

    let logged = env.run(&["logs", "--net", "box"]);
    for host in [1, 2, 3, 4, 6] {
        let sentence = told(&format!("10.1.2.{host}:80"));
        assert_eq!(logged.stdout().matches(&sentence).count(), 1, "{logged}");
    }
    let entries = env.run(&["logs", "--net", "--json", "box"]).json();
    let denied: u64 =
        entries.as_array().unwrap().iter().map(|entry| entry["denied"].as_u64().unwrap()).sum();
    assert!(denied >= 5, "{entries}");
    env.rm(&id);
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
