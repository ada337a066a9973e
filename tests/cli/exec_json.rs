//! `exec --json` and `run --json`.

use serde_json::json;

use crate::support::answer::matches;
use crate::support::environment::Environment;
use crate::support::fields;

const FIELDS: [&str; 16] = [
    "vm_id",
    "command",
    "stdout",
    "stderr",
    "stdout_encoding",
    "stderr_encoding",
    "truncated",
    "exit_code",
    "duration_ms",
    "ended_by",
    "error",
    "backend",
    "accelerator",
    "isolation",
    "cleanup",
    "timings_ms",
];

#[test]
fn the_answer_has_the_documented_fields_in_order() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let answer =
        env.run(&["exec", "--json", &id, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    let json = answer.json_of(7);
    // The documented order of the fields.
    let names = fields::names(answer.stdout());
    assert_eq!(names, FIELDS);
    assert_eq!(json["vm_id"], id.as_str());
    assert_eq!(json["command"], "sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((&json["stdout"], &json["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!((&json["exit_code"], &json["ended_by"]), (&7.into(), &"exit".into()));
    let runs_on = [&json["backend"], &json["accelerator"], &json["isolation"]];
    assert_eq!(runs_on, ["mock", "none", "none"]);
    assert!(json["duration_ms"].is_u64());
    assert_eq!(
        json["cleanup"],
        json!({"vm_id": id, "deleted": true, "reason": "post_exec_cleanup"})
    );
    for phase in ["connect", "exec", "cleanup"] {
        assert!(json["timings_ms"][phase].is_f64(), "{phase} in {json}");
    }
}

#[test]
fn a_kept_vm_has_no_cleanup() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let json = env.run(&["exec", "--json", "--keep", &id, "-c", "echo $((1+1))"]).json();
    assert_eq!(json["cleanup"], json!(null));
    assert_eq!((&json["command"], &json["stdout"]), (&"echo $((1+1))".into(), &"2\n".into()));
    env.rm(&id);
}

#[test]
fn run_answers_the_same_with_all_phases() {
    let env = Environment::mock();
    let answer = env.run(&["run", "--json", "--", "echo", "hi"]);
    let json = answer.json();
    assert_eq!(fields::names(answer.stdout()), FIELDS);
    assert_eq!(json["stdout"], "hi\n");
    for phase in ["create", "launch", "boot", "setup", "exec", "cleanup"] {
        assert!(json["timings_ms"][phase].is_f64(), "{phase} in {json}");
    }
}

#[test]
fn output_that_is_not_utf_8_is_carried_as_base64_and_says_so() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let json = env.run(&["exec", "--json", &id, "--", "printf", r"\377\376"]).json();
    assert_eq!((&json["stdout"], &json["stdout_encoding"]), (&"//4=".into(), &"base64".into()));
    assert_eq!((&json["stderr"], &json["stderr_encoding"]), (&"".into(), &"utf-8".into()));
}

#[test]
fn what_mayfly_says_is_no_part_of_the_commands_stderr() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let timed_out =
        |line: &str| env.run(&["exec", "--json", "--timeout", "1s", &id, "-c", line]).json_of(124);
    let json = timed_out("sleep 999");
    let error = json!({
        "kind": "timed_out", "message": "command timed out after 1s", "hint": null, "exit_code": 124
    });
    assert_eq!((&json["stderr"], &json["error"]), (&"".into(), &error));
    let json = timed_out("printf 'half \\377' >&2; echo out; sleep 999");
    assert_eq!((&json["stderr"], &json["error"]), (&"aGFsZiD/".into(), &error));
    assert_eq!((&json["stdout"], &json["exit_code"]), (&"out\n".into(), &124.into()));
    for (flags, code, kind, message) in [
        (&["--", "no-such-program"][..], 127, "not_found", "no-such-program: not found"),
        (&["--", "/etc/hostname"], 126, "not_executable", "[..]/etc/hostname[..]"),
        (
            &["-w", "/no/such/directory", "--", "true"],
            126,
            "not_found",
            "[..]/no/such/directory[..]",
        ),
        (&["--user", "no-one-here", "--", "true"], 126, "not_found", "[..]no-one-here[..]"),
    ] {
        let json = env.run(&[&["exec", "--json", &id][..], flags].concat()).json_of(code);
        assert_eq!((&json["stderr"], &json["ended_by"]), (&"".into(), &json!(null)), "{json}");
        let error = &json["error"];
        assert_eq!((&error["kind"], &error["exit_code"]), (&kind.into(), &code.into()), "{json}");
        assert!(matches(message, error["message"].as_str().unwrap()), "{json}");
        let text = format!("mayfly: {}\n", error["message"].as_str().unwrap());
        env.run(&[&["exec", &id][..], flags].concat()).fails(code, &text);
        let all = env.run(&[&["exec", "--all", "--json"][..], flags].concat());
        assert_eq!(all.json_of(code)["error"], *error);
        let text = format!("mayfly: {id}: {}\n", error["message"].as_str().unwrap());
        env.run(&[&["exec", "--all"][..], flags].concat()).fails(code, &text);
    }
    env.rm(&id);
}

#[test]
fn captured_output_is_capped_and_says_so() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let answer = env.run(&["exec", "--json", &id, "--", "head", "-c", "50000000", "/dev/zero"]);
    let json = answer.json();
    assert_eq!(json["truncated"], true);
    let kept = json["stdout"].as_str().unwrap().len();
    assert!((1 << 20..16 << 20).contains(&kept), "{kept} bytes kept");
    assert_eq!(json["exit_code"], 0);
}
