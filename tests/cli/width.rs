//! Listings fit the terminal's width.

use std::collections::BTreeSet;
use std::fs;

use unicode_width::UnicodeWidthStr;

use crate::support::environment::Environment;

/// Checks that no row is wider than the terminal, and that words are whole: of names that are shortened, an ellipsis
/// shows it, and only words that are wider than a column are broken.
#[track_caller]
fn fits(env: &Environment, args: &[&str]) {
    let answer = env.run(args);
    let all: BTreeSet<&str> = answer.stdout().split_whitespace().collect();
    for columns in [40, 80, 200] {
        let shown = env.shown_at(columns, args);
        for line in shown.lines() {
            assert!(line.width() <= columns.into(), "{columns}: {line:?} in\n{shown}");
        }
        for word in shown.split_whitespace() {
            let is_part = || all.iter().any(|long| long.width() > 16 && long.contains(word));
            // The time left and the free space change.
            let is_number = word.starts_with(|c: char| c.is_ascii_digit()) && word.len() < 9;
            assert!(
                is_number || all.contains(word) || word.contains('…') || is_part(),
                "{word} in\n{shown}"
            );
        }
        if columns == 200 {
            let least = answer.stdout().lines().map(UnicodeWidthStr::width).max().unwrap();
            assert!(least > 200 || shown.lines().count() == answer.stdout().lines().count());
        }
    }
}

#[test]
fn every_listing_fits_the_terminal() {
    let mut env = Environment::mock();
    env.set("MAYFLY_QEMU_BIN", "/nowhere/qemu");
    env.set("MAYFLY_FIRECRACKER_BIN", "/nowhere/firecracker");
    env.profiles(
        "[profiles.a-profile-whose-name-is-longer-than-most]\n\
         extends = \"debian-base\"\n\
         description = \"Wide 漢字漢字漢字 and combining e\u{301}e\u{301}e\u{301} characters, \
         and a description that fills more than one row of most terminals\"\n",
    );
    let long = "a-name-that-is-as-long-as-names-of-vms-in-big-pipelines-are";
    env.create(&["--name", &format!("{long}-1"), "-p", "a-profile-whose-name-is-longer-than-most"]);
    env.create(&["--name", &format!("{long}-2")]);
    env.create(&[]);
    let failed = env.create(&["--name", "failed"]);
    env.edit_registry(|registry| {
        let error = "the VM ended by itself, after its image /srv/images/of/everyone was deleted";
        registry["vms"][&failed]["state"] =
            serde_json::json!({ "phase": "stopped", "last_error": error });
    });
    fs::create_dir_all(env.artifacts().join("templates/debian-base-0123456789ab")).unwrap();
    for args in [
        &["status"][..],
        &["status", "failed"],
        &["profiles"],
        &["image", "ls"],
        &["template", "ls"],
        &["config", "show"],
    ] {
        fits(&env, args);
    }
    // What identifies a VM, its state and the time left stay longest.
    let narrow = env.shown_at(40, &["status"]);
    assert!(narrow.starts_with("VM            NAME "), "{narrow}");
    assert!(narrow.lines().next().unwrap().ends_with("LEFT"), "{narrow}");
    for id in env.ids() {
        assert!(narrow.contains(&id), "{id} in\n{narrow}");
    }
    let isolation = |columns| env.shown_at(columns, &["status"]).contains("ISOLATION");
    assert!(!isolation(80) && isolation(200));
    env.clear();
}

#[test]
fn checks_of_the_host_fit_the_terminal() {
    let mut env = Environment::mock();
    env.set("MAYFLY_FIRECRACKER_BIN", "/nowhere/firecracker");
    let qemu = env.file("qemu", "#!/bin/sh\necho QEMU emulator version 7.2.22\n");
    fs::set_permissions(&qemu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    env.set("MAYFLY_QEMU_BIN", &qemu);
    fits(&env, &["doctor"]);
}

#[test]
fn in_pipes_and_files_nothing_is_shortened() {
    let mut env = Environment::mock();
    let name = "a-name-that-is-as-long-as-names-of-vms-in-big-pipelines-are";
    env.create(&["--name", name]);
    env.set("COLUMNS", "40");
    env.run(&["status"]).is(0, &format!("[..] ISOLATION [..]{name} [..]"), "");
    env.clear();
}
