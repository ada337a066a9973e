//! `mayfly template`, without starting VMs. The conformance suite does that.

use std::fs;
use std::path::Path;

use crate::support::environment::Environment;

/// Makes a directory that is a damaged template with a time of its last use.
fn damaged(env: &Environment, name: &str) -> std::path::PathBuf {
    let directory = env.artifacts().join("templates").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("template.json"), "{}").unwrap();
    fs::write(directory.join("used"), "").unwrap();
    directory
}

/// Moves the last use of a template into the past.
fn forget(directory: &Path, days: u64) {
    let used = fs::File::options().write(true).open(directory.join("used")).unwrap();
    let now = used.metadata().unwrap().modified().unwrap();
    used.set_modified(now - std::time::Duration::from_secs(days * 86_400)).unwrap();
}

#[test]
fn where_there_are_none_none_are_listed_and_nothing_is_made() {
    let env = Environment::mock();
    env.run(&["template", "ls"])
        .prints("TEMPLATE  PROFILE  RUNS ON  SIZE  ON DISK  MADE  LAST USED\n");
    env.run(&["template", "ls", "--json"]).prints("[]\n");
    assert!(!env.artifacts().exists() && !env.state().exists());
    env.run(&["template", "rm", "--all"]).prints("");
    assert!(!env.artifacts().exists());
}

#[test]
fn processes_of_the_host_have_no_templates() {
    let env = Environment::mock();
    env.run(&["template", "build"]).fails(
        6,
        "mayfly: the mock backend has no templates\n\
         hint: name another backend with --backend\n",
    );
    env.run(&["run", "--cold", "--", "echo", "ok"]).prints("ok\n");
    assert!(!env.artifacts().exists());
    env.run(&["template", "build", "--vcpus", "99"]).fails(2, "mayfly: --vcpus must be[..]");
    env.run(&["template", "build", "-p", "nope"]).fails(
        3,
        "mayfly: no profile \"nope\"\n\
         hint: the profiles are debian-base, debian-build, debian-git, debian-kvm; see 'mayfly profiles'\n",
    );
    env.run(&["template", "build", "--require", "hardware"]).fails(6, "mayfly: hardware[..]");
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

#[test]
fn damaged_templates_are_listed_as_such_and_deleted() {
    let env = Environment::mock();
    let (one, two) = (damaged(&env, "one-0123"), damaged(&env, "two-4567"));
    env.run(&["template", "ls"]).is(
        0,
        "TEMPLATE [..]\none-0123 [..](damaged) [..]\ntwo-4567 [..](damaged) [..]\n",
        "",
    );
    let listed = env.run(&["template", "ls", "--json"]).json();
    assert_eq!(
        (&listed[0]["template"], &listed[0]["damaged"], &listed[0]["profile"]),
        (&"one-0123".into(), &true.into(), &serde_json::Value::Null)
    );
    // The template that exists is deleted, and the other one reported.
    env.run(&["template", "rm", "nope", "one-0123"]).is(
        3,
        "one-0123\n",
        "mayfly: no template \"nope\"\nhint: 'mayfly template ls' lists all templates\n",
    );
    assert!(!one.exists() && two.exists());
    env.run(&["template", "rm", "-f", "nope"]).prints("nope\n");
    env.run(&["template", "rm", "--json", "--all"])
        .prints("[{\"template\":\"two-4567\",\"deleted\":true,\"reason\":\"explicit_delete\"}]\n");
    env.run(&["template", "rm", "--json", "-f", "nope"])
        .prints("{\"template\":\"nope\",\"deleted\":false,\"reason\":\"absent\"}\n");
    env.run(&["template", "rm", "--all"]).prints("");
    env.run(&["template", "rm", "--all", "--json"]).prints("[]\n");
    assert_eq!(fs::read_dir(env.artifacts().join("templates")).unwrap().count(), 0);
    env.run(&["template", "rm"]).fails(
        2,
        "mayfly: the following required arguments were not provided: <TEMPLATE>...\n\
         hint: 'mayfly template rm --help' shows the usage\n",
    );
    env.run(&["template", "rm", "--all", "one-0123"]).fails(
        2,
        "mayfly: the argument '--all' cannot be used with '[TEMPLATE]...'\n\
         hint: 'mayfly template rm --help' shows the usage\n",
    );
}

#[test]
fn a_name_cannot_lead_out_of_the_directory() {
    let env = Environment::mock();
    let directory = damaged(&env, "one-0123");
    fs::write(env.artifacts().join("canary"), "alive").unwrap();
    for name in ["", ".", "..", "../canary", "/etc", "one-0123/used", ".one-0123.lock"] {
        env.run(&["template", "rm", name]).fails(3, "mayfly: no template [..]");
    }
    assert!(directory.join("used").exists() && env.artifacts().join("canary").exists());
}

#[test]
fn unused_templates_are_reaped_after_a_time() {
    let mut env = Environment::mock();
    let (old, new) = (damaged(&env, "old-0123"), damaged(&env, "new-4567"));
    forget(&old, 31);
    forget(&new, 29);
    env.run(&["reap", "--dry-run"]).prints("would delete template old-0123\n");
    assert!(old.exists());
    let reaped = env.run(&["reap", "--json"]).json();
    assert_eq!(
        reaped["deletions"],
        serde_json::json!([{ "template": "old-0123", "deleted": true, "reason": "unused" }])
    );
    assert!(!old.exists() && new.exists());
    env.run(&["reap"]).prints("");
    env.profiles("[limits]\ntemplate_unused_seconds = 86400\n");
    env.run(&["reap"]).prints("deleted template new-4567\n");
    env.run(&["reap"]).prints("");
}

#[test]
fn an_unfinished_template_is_swept() {
    let env = Environment::mock();
    let left = damaged(&env, ".making-one-0123-89abcdef");
    fs::write(env.artifacts().join("templates/.one-0123.lock"), "12345").unwrap();
    fs::write(env.artifacts().join("templates/.two-4567.lock"), "12345").unwrap();
    env.run(&["template", "ls", "--json"]).prints("[]\n");
    env.run(&["reap", "--dry-run"]).prints(&format!("would delete {}\n", left.display()));
    assert!(left.exists());
    env.run(&["reap"]).prints(&format!("deleted {}\n", left.display()));
    env.run(&["reap"]).prints("");
    assert_eq!(fs::read_dir(env.artifacts().join("templates")).unwrap().count(), 0);
}
