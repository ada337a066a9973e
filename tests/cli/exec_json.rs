//! `exec --json` and `run --json`.

use serde_json::json;

use crate::support::environment::Environment;
use crate::support::fields;

const FIELDS: [&str; 13] = [
    "vm_id",
    "command",
    "stdout",
    "stderr",
    "stdout_encoding",
    "stderr_encoding",
    "truncated",
    "exit_code",
    "duration_ms",
    "timed_out",
    "ended_by",
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
    assert_eq!(json["exit_code"], 7);
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
fn a_timeout_is_reported_in_stderr() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let timed_out =
        |line: &str| env.run(&["exec", "--json", "--timeout", "1s", &id, "-c", line]).json_of(124);
    let json = timed_out("sleep 999");
    assert_eq!(
        (&json["stderr"], &json["timed_out"]),
        (&"command timed out after 1s".into(), &true.into())
    );
    let json = timed_out("printf half >&2; echo out; sleep 999");
    assert_eq!(json["stderr"], "half\ncommand timed out after 1s");
    assert_eq!((&json["stdout"], &json["exit_code"]), (&"out\n".into(), &124.into()));
    env.rm(&id);
}

#[test]
fn a_command_that_cannot_start_is_an_answer_not_an_error() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let json = env.run(&["exec", "--json", &id, "--", "no-such-program"]).json_of(127);
    assert_eq!(json["exit_code"], 127);
    assert!(json["stderr"].as_str().unwrap().contains("no-such-program: not found"), "{json}");
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
