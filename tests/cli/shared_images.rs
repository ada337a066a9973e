//! Images that this user can use, but not change: on a read-only file system, or root's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::geteuid;

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::programs;
use crate::support::skip::skipped;

const USER: u32 = 65_534;

/// Checks every verb that images matter to. `run` runs mayfly where they cannot be changed.
fn check(env: &Environment, run: &dyn Fn(&[&str]) -> Answer) {
    let artifacts = env.artifacts();
    let before = names(env);
    let echo = |word: &str| run(&["run", "--mem", "256M", "--", "echo", word]);
    // The first makes a template, the second starts from it; the third boots.
    let made = echo("one");
    assert_eq!((made.code(), made.stdout.as_slice()), (0, &b"one\n"[..]), "{made}");
    echo("two").is(0, "two\n", "");
    run(&["run", "--cold", "--mem", "256M", "--", "echo", "three"]).is(0, "three\n", "");
    let templates = run(&["template", "ls", "--json"]).json();
    assert_eq!(templates.as_array().unwrap().len(), 1, "{templates}");
    assert!(env.state().join("templates").is_dir());
    run(&["image", "ls"]).is(0, "PROFILE [..]\n[..]debian-base [..]", "");
    run(&["image", "build", "debian-base"]).is(0, "debian-base\n", "");
    run(&["status", "--json"]).is(0, "[]\n", "");
    for args in [&["reap"][..], &["reap", "--dry-run"]] {
        run(args).is(0, "", "");
    }
    run(&["image", "prune"]).is(0, "", "mayfly: freed 0 MB\n");
    let shown = artifacts.display();
    let doctor = run(&["doctor"]);
    let kept = format!("{shown} (not writable: templates are kept in the state directory)");
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(&kept), "{doctor}");
    for args in [
        &["image", "rm", "debian-base"][..],
        &["image", "build", "--force", "debian-base"],
        &["image", "build", "debian-git"],
        &["image", "prune", "--all"],
        &["image", "import", "/etc", "etc"],
    ] {
        let refused = format!(
            "mayfly: the image of [..] cannot be built, changed or deleted: you cannot write to {shown}\n\
             hint: [..]\n"
        );
        run(args).fails(6, &refused);
    }
    let template = run(&["template", "ls", "--json"]).json()[0]["template"].clone();
    let template = template.as_str().unwrap().to_owned();
    run(&["template", "rm", &template]).is(0, &format!("{template}\n"), "");
    assert_eq!(names(env), before, "something was changed");
}

/// The names in the directories of images and of the image.
fn names(env: &Environment) -> Vec<String> {
    let list = |directory: std::path::PathBuf| fs::read_dir(directory).unwrap();
    let entries = list(env.artifacts()).chain(list(env.artifacts().join("debian-base")));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().path().display().to_string()).collect();
    names.sort();
    names
}

#[test]
fn images_on_a_read_only_file_system_can_be_used() {
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    let artifacts = env.artifacts();
    let script = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$0\" \"$@\"",
        artifacts.display()
    );
    let run = |args: &[&str]| {
        let template = env.command(args);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--propagation", "private"]);
        if geteuid().is_root() {
            command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private"]);
        }
        command.args(["sh", "-c", &script]).arg(template.get_program()).args(args);
        command.env_clear().current_dir(env.root());
        command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Answer::new(format!("{args:?}"), command.output().unwrap())
    };
    let first = run(&["image", "ls"]);
    if ["unshare failed", "mount: "].iter().any(|trouble| first.stderr().contains(trouble)) {
        return skipped(&format!("nothing can be mounted: {first}"));
    }
    // Without locks, which nobody has made there.
    check(&env, &run);
    // With locks, that the owner made while it was writable.
    env.run(&["image", "build", "debian-base"]).prints("debian-base\n");
    assert!(artifacts.join(".debian-base.use").exists());
    check(&env, &run);
}

#[test]
fn images_of_root_can_be_used_by_others_who_can_read_them() {
    if !geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    let programs = env.root().join("programs");
    fs::create_dir(&programs).unwrap();
    for program in [programs::mayfly(), programs::agent()] {
        env.copy_program(&program, &programs);
    }
    for directory in [env.state(), env.runtime()] {
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        chown(directory, Some(USER), Some(USER)).unwrap();
    }
    let run = |args: &[&str]| {
        let template = env.command(args);
        let mut command = Command::new(programs.join("mayfly"));
        command.args(args).env_clear().current_dir("/");
        command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.uid(USER).gid(USER);
        Answer::new(format!("{args:?}"), command.output().unwrap())
    };
    let readable = Command::new("chmod").args(["-R", "go+rX"]).arg(env.artifacts()).status();
    assert!(readable.unwrap().success());
    check(&env, &run);
    // A lock that this user can read keeps the owner from changing the image meanwhile; one that it cannot read
    // does not keep it from using the image.
    let lock = env.artifacts().join(".debian-base.use");
    fs::write(&lock, "").unwrap();
    for mode in [0o644, 0o600] {
        fs::set_permissions(&lock, fs::Permissions::from_mode(mode)).unwrap();
        run(&["image", "build", "debian-base"]).is(0, "debian-base\n", "");
    }
}
