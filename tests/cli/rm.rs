//! `mayfly rm`.

use serde_json::json;

use crate::support::environment::Environment;
use crate::support::fields;
use crate::support::processes::lives;

#[test]
fn deletes_a_running_vm_and_all_its_files() {
    let env = Environment::mock();
    let id = env.start(&["--name", "ci"]);
    let vmm = env.vmm(&id);
    let answer = env.run(&["rm", "--json", "ci"]);
    assert_eq!(answer.json(), json!({"vm_id": id, "deleted": true, "reason": "explicit_delete"}));
    assert_eq!(fields::names(answer.stdout()), ["vm_id", "deleted", "reason"]);
    assert!(!lives(vmm));
    assert!(env.ids().is_empty());
}

#[test]
fn an_absent_vm_is_an_error_unless_forced() {
    let env = Environment::mock();
    env.run(&["rm", "nope"]).fails(3, "mayfly: no VM \"nope\"\nhint: [..]\n");
    env.run(&["rm", "-f", "nope"]).prints("");
    env.run(&["rm", "--force", "0123456789ab", "nope"]).prints("");
    let answer = env.run(&["rm", "-f", "--json", "nope"]);
    assert_eq!(answer.json(), json!({"vm_id": "nope", "deleted": false, "reason": "absent"}));
}

#[test]
fn force_forgives_absence_and_nothing_else() {
    let env = Environment::mock();
    let ids: Vec<String> = (0..4).map(|_| env.create(&[])).collect();
    // An empty name would be a prefix of every id.
    for name in ["", "../x"] {
        let said = format!("\"{name}\" is not a VM id or name");
        let hint = "hint: 'mayfly rm --help' shows the usage\n";
        env.run(&["rm", "-f", name]).fails(2, &format!("mayfly: {said}\n{hint}"));
    }
    assert_eq!(env.ids().len(), ids.len());
    env.clear();
}

#[test]
fn a_missing_vm_does_not_keep_others_from_being_deleted() {
    let env = Environment::mock();
    let (a, b) = (env.start(&[]), env.create(&[]));
    env.run(&["rm", &a, "nope", &b]).is(3, &format!("{a}\n{b}\n"), "mayfly: no VM \"nope\"\n[..]");
    let (a, b) = (env.start(&[]), env.create(&[]));
    let lines = env.run(&["rm", "--json", &a, &b]).json_lines();
    assert_eq!((&lines[0]["vm_id"], &lines[1]["vm_id"]), (&a.into(), &b.into()));
}

#[test]
fn an_expired_vm_can_still_be_deleted() {
    let env = Environment::mock();
    let id = env.start(&[]);
    env.expire(&id);
    env.run(&["rm", &id]).prints(&format!("{id}\n"));
}

#[test]
fn directories_without_permissions_are_deleted() {
    let env = Environment::mock();
    std::fs::create_dir(env.root().join("elsewhere")).unwrap();
    let precious = env.file("elsewhere/precious", "kept");
    let id = env.start(&[]);
    env.run(&[
        "exec",
        "--keep",
        &id,
        "-c",
        "mkdir -p a/b && touch a/b/c && chmod 0 a/b a && ln -s ../../../../elsewhere link && ls link",
    ])
    .prints("precious\n");
    env.rm(&id);
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "kept", "links are not followed");
}
