//! Every verb in every outcome, as text and as JSON: what is on standard output and standard error, and the exit code.
//! Each verb has a row: a verb without one fails.

use std::collections::BTreeSet;
use std::fs;

use mayfly::commands::GUEST_VERBS;
use serde_json::Value;

use super::interruptible::verbs;
use crate::support::answer::{Answer, matches};
use crate::support::environment::Environment;

/// Command lines of a verb. `box` is a running VM, and `new` one that was not started.
struct VerbRow {
    verb: &'static str,
    /// One that succeeds, and what it prints; none if that needs a terminal, a network or a VMM.
    success: Option<(&'static str, &'static str)>,
    /// One that has nothing to do, and what it prints.
    nothing: Option<(&'static str, &'static str)>,
    /// One that names what does not exist, and the message.
    missing: Option<(&'static str, &'static str)>,
}

const fn row(verb: &'static str) -> VerbRow {
    VerbRow { verb, success: None, nothing: None, missing: None }
}

impl VerbRow {
    const fn prints(self, line: &'static str, stdout: &'static str) -> VerbRow {
        VerbRow { success: Some((line, stdout)), ..self }
    }

    const fn may_do_nothing(self, line: &'static str, stdout: &'static str) -> VerbRow {
        VerbRow { nothing: Some((line, stdout)), ..self }
    }

    const fn may_miss(self, line: &'static str, message: &'static str) -> VerbRow {
        VerbRow { missing: Some((line, message)), ..self }
    }

    fn is_guest_verb(&self) -> bool {
        GUEST_VERBS.contains(&self.verb)
    }

    /// The exit code of a failure of mayfly's.
    fn code(&self, usual: i32) -> i32 {
        if self.is_guest_verb() { 125 } else { usual }
    }
}

const NO_VM: &str = "no VM \"nope\"";
const NO_PROFILE: &str = "no profile \"nope\"";

const ROWS: &[VerbRow] = &[
    row("run").prints("run -- echo hi", "hi\n").may_miss("run -p nope -- true", NO_PROFILE),
    row("create").prints("create --name other", "[..]\n").may_miss("create -p nope", NO_PROFILE),
    row("start").prints("start new", "new\n").may_miss("start nope", NO_VM),
    row("exec").prints("exec box -- echo hi", "hi\n").may_miss("exec nope -- true", NO_VM),
    // It needs a terminal.
    row("shell"),
    row("cp")
        .prints("cp file box:", "")
        .may_miss("cp nope box:", "cannot copy \"nope\": No such file or directory"),
    row("stop")
        .prints("stop box", "box\n")
        .may_do_nothing("stop new", "new\n")
        .may_miss("stop nope", NO_VM),
    row("rm")
        .prints("rm box", "box\n")
        .may_do_nothing("rm -f nope", "[..]")
        .may_miss("rm nope", NO_VM),
    row("logs").prints("logs box", "[..]").may_miss("logs nope", NO_VM),
    row("wait").prints("wait new", "new\n").may_miss("wait nope", NO_VM),
    row("extend")
        .prints("extend box 20m", "box\n")
        .may_do_nothing("extend box 1m", "box\n")
        .may_miss("extend nope 20m", NO_VM),
    row("rename").prints("rename box other", "other\n").may_miss("rename nope other", NO_VM),
    row("status").prints("status box", "[..]box[..]\n").may_miss("status nope", NO_VM),
    row("inspect").prints("inspect box", "[..]box[..]\n").may_miss("inspect nope", NO_VM),
    row("port").may_do_nothing("port box", "").may_miss("port nope", NO_VM),
    row("reap").may_do_nothing("reap", ""),
    row("df").prints("df", "[..]\n"),
    row("profiles").prints("profiles", "[..]debian-base[..]\n"),
    row("config show")
        .prints("config show mem", "[..]mem[..]\n")
        .may_miss("config show memm", "no key \"memm\""),
    row("config path").prints("config path", "[..]config.toml\n"),
    row("image build").may_miss("image build nope", NO_PROFILE),
    row("image pull").may_miss("image pull box --kernel-of nope", NO_PROFILE),
    row("image import")
        .may_miss("image import nope.tar", "cannot open [..]nope.tar: No such file or directory"),
    row("image ls").prints("image ls", "[..]"),
    row("image rm")
        .may_do_nothing("image rm -f nope", "[..]")
        .may_miss("image rm nope", "profile \"nope\" has no image"),
    row("image prune").may_do_nothing("image prune", ""),
    row("template build").may_miss("template build -p nope", NO_PROFILE),
    row("template ls").prints("template ls", "[..]"),
    row("template rm")
        .may_do_nothing("template rm --all", "")
        .may_miss("template rm nope", "no template \"nope\""),
    row("pool fill").prints("pool fill", "[..]\n").may_miss("pool fill -p nope", NO_PROFILE),
    row("pool ls").prints("pool ls", "[..]\n"),
    row("pool drain").may_do_nothing("pool drain", "").may_miss("pool drain -p nope", NO_PROFILE),
    // Its result depends on the host.
    row("doctor"),
    row("completions").prints("completions bash", "[..]\n"),
];

#[test]
fn every_verb_has_a_row() {
    let mut wanted = BTreeSet::new();
    verbs(&mayfly::cli::command(), "", &mut wanted);
    let rows = ROWS.iter().map(|row| row.verb.to_owned()).collect();
    assert_eq!(wanted, rows);
}

/// Compares an answer with what it would be as text; returns what is wrong.
fn check(
    answer: &Answer,
    json: bool,
    code: i32,
    stdout: &str,
    message: Option<&str>,
) -> Option<String> {
    let (out, err) = (answer.stdout(), answer.stderr());
    let is_right = match message {
        // Notes are allowed.
        None if json => {
            err.is_empty() && out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
        }
        None => matches(stdout, out) && err.lines().all(|line| line.starts_with("mayfly: ")),
        Some(message) if json => {
            let error: Value = serde_json::from_str(err).unwrap_or_default();
            let error = &error["error"];
            let said = error["message"].as_str().unwrap_or_default();
            out.is_empty() && matches(message, said) && error["exit_code"] == code
        }
        Some(message) => {
            let first = err.lines().next().unwrap_or_default();
            let others = || err.lines().skip(1);
            let is_hint = others().all(|line| line.starts_with("hint: ")) && others().count() <= 1;
            out.is_empty() && matches(&format!("mayfly: {message}"), first) && is_hint
        }
    };
    let is_right = is_right && answer.code() == code;
    (!is_right).then(|| format!("expected {code}: {message:?} {stdout:?}, got {answer}"))
}

#[track_caller]
fn every_outcome(json: bool) {
    let mut wrong = Vec::new();
    for row in ROWS {
        let mut env = Environment::mock();
        env.file("file", "content");
        env.start(&["--name", "box", "--keep"]);
        env.create(&["--name", "new"]);
        let run = |env: &Environment, line: &str| {
            let words = line.split(' ').filter(|word| !word.is_empty());
            let json = json.then_some("--json");
            env.run(&json.into_iter().chain(words).collect::<Vec<_>>())
        };
        let mut expect = |answer: Answer, code, stdout: &str, message: Option<&str>| {
            wrong.extend(check(&answer, json, code, stdout, message));
        };

        if let Some((line, message)) = row.missing {
            expect(run(&env, line), row.code(3), "", Some(message));
        }
        let verb = row.verb;
        let unknown = "unexpected argument '--nonsense' found";
        expect(run(&env, &format!("{verb} --nonsense")), row.code(2), "", Some(unknown));
        // The same value from a flag, a variable and a file.
        let line = row.success.or(row.nothing).or(row.missing).map_or(verb, |(line, _)| line);
        let line = if verb == "shell" { "shell box" } else { line };
        let why = "\"xen\" is not one of auto, firecracker, qemu, mock";
        let from_flag = run(&env, &format!("--backend xen {line}"));
        expect(from_flag, row.code(2), "", Some(&format!("--backend: {why}")));
        env.set("MAYFLY_BACKEND", "xen");
        expect(run(&env, line), row.code(2), "", Some(&format!("MAYFLY_BACKEND: {why}")));
        env.set("MAYFLY_BACKEND", "mock");
        let file = env.file("config.toml", "\nbackend = \"xen\"\n");
        env.set("MAYFLY_CONFIG", &file);
        let at = format!("{}:2: backend must be [..], not \"xen\"", file.display());
        expect(run(&env, line), row.code(2), "", Some(&at));
        env.unset("MAYFLY_CONFIG");

        if let Some((line, stdout)) = row.nothing {
            expect(run(&env, line), 0, stdout, None);
        }
        if json && verb == "completions" {
            let message = "'completions' cannot be used with '--json'";
            expect(run(&env, "completions bash"), 2, "", Some(message));
        } else if let Some((line, stdout)) = row.success {
            expect(run(&env, line), 0, stdout, None);
        }
        fs::remove_file(file).unwrap();
        env.run(&["pool", "drain"]).is(0, "[..]", "[..]");
        env.clear();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_outcome_of_every_verb_as_text() {
    every_outcome(false);
}

#[test]
fn every_outcome_of_every_verb_as_json() {
    every_outcome(true);
}
