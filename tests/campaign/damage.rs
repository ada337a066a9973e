//! A damaged registry: every verb refuses it, and `reap --rebuild` rebuilds it.

use std::fs;

use mayfly::registry::SCHEMA;

use super::ground::Ground;

fn damaged(how: impl Fn(&str) -> String, keeps_generation: bool) {
    let ground = Ground::new();
    let (running, resting) = (ground.started(), ground.created());
    let file = ground.state.join("registry.json");
    let before = ground.registry();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, how(&text)).unwrap();
    let bytes = fs::read(&file).unwrap();

    for args in [
        vec!["create"],
        vec!["start", &resting],
        vec!["exec", &running, "--", "true"],
        vec!["stop", &running],
        vec!["rm", "-f", &running],
        vec!["status"],
        vec!["status", &running],
        vec!["reap"],
        vec!["reap", "--dry-run"],
        vec!["run", "--", "true"],
    ] {
        let ended = ground.run(&args);
        let refused = if matches!(args[0], "exec" | "run") { 125 } else { 1 };
        assert_eq!(ended.code, Some(refused), "{ended:#?}");
        assert!(ended.stderr.contains("--rebuild"), "{ended:#?}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{args:?} wrote");
    }

    ground.ok(&["reap", "--rebuild"]);
    let after = ground.registry();
    let ids = |contents: &mayfly::registry::RegistryContents| {
        contents.vms.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after));
    if keeps_generation {
        assert!(after.generation > before.generation, "{} {}", after.generation, before.generation);
    }
    assert_eq!(fs::read(ground.state.join("registry.json.damaged")).unwrap(), bytes);
    ground.check("a rebuild");
    assert_eq!(ground.ok(&["exec", "--keep", &running, "--", "echo", "alive"]), "alive");
    ground.ok(&["start", &resting]);
    assert_eq!(ground.ok(&["reap", "--rebuild"]), "");
    ground.check("a needless rebuild");
}

#[test]
fn truncated() {
    damaged(|text| text[..text.len() / 2].to_owned(), true);
}

#[test]
fn all_zeros() {
    damaged(|text| "\0".repeat(text.len()), false);
}

#[test]
fn empty() {
    damaged(|_| String::new(), false);
}

#[test]
fn garbage() {
    damaged(|_| "\u{1b}[2Jnot JSON {{{".into(), false);
}

#[test]
fn another_vm_under_an_id() {
    damaged(
        |text| {
            let id = text.split("\"vm_id\":\"").nth(1).unwrap()[..12].to_owned();
            text.replacen(&format!("\"vm_id\":\"{id}\""), "\"vm_id\":\"0123456789ab\"", 1)
        },
        true,
    );
}

#[test]
fn lost_altogether() {
    let ground = Ground::new();
    let running = ground.started();
    fs::remove_file(ground.state.join("registry.json")).unwrap();
    for args in [vec!["create"], vec!["reap"], vec!["rm", &running], vec!["status"]] {
        let ended = ground.run(&args);
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert!(ended.stderr.contains("--rebuild"), "{ended:#?}");
    }
    ground.ok(&["reap", "--rebuild"]);
    ground.check("a rebuild from nothing");
    assert_eq!(ground.ok(&["exec", "--keep", &running, "--", "echo", "alive"]), "alive");
}

/// Rebuilding would lose what this version does not understand.
#[test]
fn a_newer_schema_is_left_to_the_program_that_wrote_it() {
    let ground = Ground::new();
    let running = ground.started();
    let file = ground.state.join("registry.json");
    let text = fs::read_to_string(&file).unwrap();
    let newer =
        text.replace(&format!("\"schema\":{SCHEMA}"), &format!("\"schema\":{}", SCHEMA + 1));
    fs::write(&file, &newer).unwrap();
    for args in [vec!["create"], vec!["reap"], vec!["rm", &running], vec!["reap", "--rebuild"]] {
        let ended = ground.run(&args);
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert!(ended.stderr.contains("newer mayfly"), "{ended:#?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);
    fs::write(&file, text).unwrap();
    ground.check("a newer schema");
}
