//! The directories that mayfly uses, and those that it refuses.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{Gid, Uid, chown, geteuid};

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::programs;

#[test]
fn a_state_directory_that_others_can_write_is_refused() {
    let mut env = Environment::mock();
    let real = env.root().join("real");
    fs::create_dir(&real).unwrap();
    let link = env.root().join("link");
    symlink(&real, &link).unwrap();
    let file = env.file("file", "");
    let shared = env.root().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let group = env.root().join("group");
    fs::create_dir(&group).unwrap();
    fs::set_permissions(&group, fs::Permissions::from_mode(0o770)).unwrap();
    let mut cases = vec![
        (link, "is a symbolic link"),
        (file, "is not a directory"),
        (shared, "can be written by others (mode 0777)"),
        (group, "can be written by others (mode 0770)"),
    ];
    if geteuid().is_root() {
        let foreign = env.root().join("foreign");
        fs::create_dir(&foreign).unwrap();
        chown(&foreign, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).unwrap();
        cases.push((foreign, "belongs to user 65534, not to you"));
    } else {
        cases.push(("/usr".into(), "belongs to user 0, not to you"));
    }
    for (place, why) in cases {
        env.set("MAYFLY_STATE_DIR", &place);
        for args in [&["create"][..], &["status"], &["rm", "-f", "x"], &["reap"], &["start", "x"]] {
            let answer = env.run(args);
            answer.fails(6, &format!("mayfly: {} {why}\nhint: [..]\n", place.display()));
        }
        env.run(&["run", "--", "true"])
            .fails(125, &format!("mayfly: {} {why}\n[..]", place.display()));
        assert!(fs::read_dir(&real).unwrap().next().is_none());
        // `doctor` works and reports the directory.
        env.run(&["doctor"]).is(0, &format!("[..]{why}[..]"), "");
    }
    env.set("MAYFLY_STATE_DIR", &real);
    env.run(&["run", "--", "true"]).prints("");
}

#[test]
fn a_directory_that_another_user_could_replace_is_refused() {
    let mut env = Environment::mock();
    let open = env.root().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let mut cases = vec![(open.clone(), "which anyone can change")];
    if geteuid().is_root() {
        let foreign = env.root().join("foreign");
        fs::create_dir(&foreign).unwrap();
        chown(&foreign, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).unwrap();
        cases.push((foreign, "which belongs to user 65534"));
    }
    for (parent, why) in cases {
        // The directory itself is private, but its parent's owner could replace it.
        let below = parent.join("deep/below");
        fs::create_dir_all(&below).unwrap();
        let usual = [("MAYFLY_STATE_DIR", env.state()), ("MAYFLY_RUNTIME_DIR", env.runtime())];
        for (variable, usual) in usual {
            env.set(variable, &below);
            env.run(&["run", "--", "true"]).fails(
                125,
                &format!(
                    "mayfly: {}[..] is below {}, {why}\n[..]",
                    below.display(),
                    parent.display()
                ),
            );
            env.set(variable, usual);
        }
    }
    // As in /tmp, the sticky bit lets only owners replace files.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    env.set("MAYFLY_STATE_DIR", open.join("deep/below"));
    env.run(&["run", "--", "true"]).prints("");
}

#[test]
fn parts_of_the_state_directory_are_checked_too() {
    let env = Environment::mock();
    env.run(&["reap"]).prints("");
    let elsewhere = env.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for part in ["vms", "locks"] {
        let path = env.state().join(part);
        fs::remove_dir(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        env.run(&["create"])
            .fails(6, &format!("mayfly: {} is a symbolic link\n[..]", path.display()));
        fs::remove_file(&path).unwrap();
    }
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_none());
}

#[test]
fn a_planted_link_at_a_lock_is_not_followed() {
    let env = Environment::mock();
    env.run(&["reap"]).prints("");
    let victim = env.file("victim", "precious");
    let lock = env.state().join("registry.lock");
    let _ = fs::remove_file(&lock);
    symlink(&victim, &lock).unwrap();
    let answer = env.run(&["create"]);
    assert_eq!(answer.code(), 1, "{answer}");
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_runtime_directory_that_is_a_planted_link_is_refused() {
    let mut env = Environment::mock();
    let shared = env.root().join("shared");
    fs::create_dir(&shared).unwrap();
    // Another user has planted a link where mayfly would create the directory of its sockets.
    env.run(&["run", "--", "true"]).prints("");
    let id = env.start(&[]);
    let ours = fs::read_dir(env.runtime()).unwrap().next().unwrap().unwrap().file_name();
    env.rm(&id);
    symlink("/tmp", shared.join(&ours)).unwrap();
    env.set("MAYFLY_RUNTIME_DIR", &shared);
    let id = env.create(&[]);
    env.run(&["start", &id]).fails(6, "mayfly: [..]is a symbolic link[..]");
    env.rm(&id);
}

#[test]
fn a_socket_path_that_cannot_fit_is_refused_at_create() {
    let mut env = Environment::mock();
    let long = env.root().join("x".repeat(90));
    env.set("MAYFLY_RUNTIME_DIR", &long);
    env.run(&["create"]).fails(
        6,
        "mayfly: the socket path [..] has [..] bytes, more than the 107 that fit\nhint: set MAYFLY_RUNTIME_DIR to a shorter directory\n",
    );
    env.run(&["run", "--", "true"]).fails(125, "mayfly: the socket path[..]");
    assert!(env.ids().is_empty());
    // The longest path that fits is accepted.
    let base = env.root().as_os_str().len() + 1;
    let rest = "/12345678/0123456789ab/port.8".len();
    env.set("MAYFLY_RUNTIME_DIR", env.root().join("x".repeat(107 - base - rest)));
    env.run(&["run", "--", "echo", "fits"]).prints("fits\n");
}

#[test]
fn a_state_directory_may_be_long_and_contain_blanks() {
    let mut env = Environment::mock();
    let place = env.root().join("a place with blanks").join("y".repeat(200));
    env.set("MAYFLY_STATE_DIR", &place);
    env.run(&["run", "--", "echo", "hi"]).prints("hi\n");
    let id = env.start(&[]);
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    env.rm(&id);
    assert!(fs::read_dir(place.join("vms")).unwrap().next().is_none());
}

#[test]
fn the_default_state_directory_follows_xdg() {
    let mut env = Environment::mock();
    env.unset("MAYFLY_STATE_DIR");
    // Another user may not have access to the tests' programs.
    let programs = env.root().join("programs");
    fs::create_dir(&programs).unwrap();
    for program in [programs::mayfly(), programs::agent()] {
        env.copy_program(&program, &programs);
    }
    let own = env.root().join("own");
    fs::create_dir(&own).unwrap();
    env.set("HOME", own.join("home"));
    env.set("MAYFLY_RUNTIME_DIR", own.join("run"));
    env.set("MAYFLY_ARTIFACTS_DIR", own.join("artifacts"));
    // Root's default is a directory of the system, so root runs this as another user.
    const NOBODY: u32 = 65_534;
    let is_root = geteuid().is_root();
    if is_root {
        chown(&own, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
    }
    let run = |env: &Environment, args: &[&str]| {
        let template = env.command(args);
        let mut command = Command::new(programs.join("mayfly"));
        command.args(args).env_clear().current_dir(&own);
        command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        Answer::new(format!("{args:?}"), command.output().unwrap())
    };
    let id = run(&env, &["create"]).line();
    assert!(own.join("home/.local/state/mayfly/vms").join(&id).exists());
    run(&env, &["rm", &id]).prints(&format!("{id}\n"));
    env.set("XDG_STATE_HOME", own.join("xdg"));
    let id = run(&env, &["create"]).line();
    assert!(own.join("xdg/mayfly/vms").join(&id).exists());
    run(&env, &["rm", &id]).prints(&format!("{id}\n"));
    // Without HOME, the home is the one in /etc/passwd.
    env.unset("XDG_STATE_HOME");
    if is_root {
        let config = env.file("config.toml", "state_dir = \"~/state\"\n");
        for home in ["", "relative"] {
            env.set("HOME", home);
            let answer = run(&env, &["create"]);
            answer.fails(1, "mayfly: cannot create /nonexistent[..]\n");
        }
        env.unset("HOME");
        run(&env, &["create"]).fails(1, "mayfly: cannot create /nonexistent[..]\n");
        env.set("MAYFLY_CONFIG", config);
        run(&env, &["create"]).fails(1, "mayfly: cannot create /nonexistent[..]state[..]\n");
    }
}

#[test]
fn no_variable_is_needed() {
    let mut env = Environment::mock();
    // The checks of programs come first.
    let diagnosis = |env: &Environment| {
        let answer = env.run(&["doctor", "--json"]);
        answer.stdout().split("state directory").next().unwrap().to_owned()
    };
    env.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let complete = diagnosis(&env);
    env.unset("LC_ALL");
    env.unset("HOME");
    // As after `env -i`, in a service, and in a shell that was given nonsense. A file in the current directory is
    // not run.
    let decoy = env.file("qemu-system-x86_64", "#!/bin/sh\necho decoy\n");
    fs::set_permissions(&decoy, fs::Permissions::from_mode(0o755)).unwrap();
    for path in [None, Some(""), Some(":"), Some(".")] {
        env.unset("PATH");
        if let Some(path) = path {
            env.set("PATH", path);
        }
        assert_eq!(diagnosis(&env), complete, "{path:?}");
        let line = "command -v sh && command -v env > /dev/null";
        env.run(&["run", "--", "sh", "-c", line]).prints("/[..]bin/sh\n");
    }
    // As cron has it: programs of administrators are found nevertheless.
    env.set("PATH", "/usr/bin:/bin");
    assert_eq!(diagnosis(&env), complete);
}

#[test]
fn a_deleted_current_directory_is_no_obstacle() {
    let env = Environment::mock();
    let gone = env.root().join("gone");
    fs::create_dir(&gone).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "rmdir \"$PWD\" && exec \"$0\" run -- echo hi"]).arg(programs::mayfly());
    command.env_clear().current_dir(&gone);
    let template = env.command::<&str>(&[]);
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Answer::new("run".into(), command.output().unwrap()).prints("hi\n");
}
