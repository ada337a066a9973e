//! `config.toml`: what it sets, what overrides it, and the origins in `config show`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::skip::skipped;

/// Sets `MAYFLY_CONFIG` to a file of this text.
fn named(env: &mut Environment, text: &str) -> std::path::PathBuf {
    let path = env.file("named.toml", text);
    env.set("MAYFLY_CONFIG", &path);
    path
}

/// A key's value and where it comes from.
fn shown(answer: &Answer) -> (String, String) {
    let all = answer.json();
    let [view]: [Value; 1] = all.as_array().unwrap().clone().try_into().unwrap();
    let text = |field: &str| match &view[field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => format!("{other} {}", view["unit"].as_str().unwrap_or_default()).trim().to_owned(),
    };
    let from = match view["file"].as_str() {
        Some(file) => {
            format!("{}:{}", Path::new(file).file_name().unwrap().display(), view["line"])
        }
        None => format!("{}{}", text("origin"), text("variable")),
    };
    (text("value"), from)
}

#[test]
fn settings_have_an_order_of_precedence() {
    let mut env = Environment::mock();
    env.profiles("[profiles.debian-base]\nmem_mib = 300\n");
    let show = |env: &Environment, flags: &[&str]| {
        shown(&env.run(&[&["config", "show", "--json", "mem"], flags].concat()))
    };
    let made = |env: &Environment, flags: &[&str]| {
        let mem = env.run(&[&["create", "--json"], flags].concat()).json()["mem_mib"].clone();
        env.clear();
        mem
    };
    assert_eq!(show(&env, &[]), ("300 MiB".into(), "profile".into()));
    assert_eq!(made(&env, &[]), 300);
    named(&mut env, "# mine\nmem = \"400M\"\n");
    assert_eq!(show(&env, &[]), ("400 MiB".into(), "named.toml:2".into()));
    assert_eq!(made(&env, &[]), 400);
    env.set("MAYFLY_MEM", "500M");
    assert_eq!(show(&env, &[]), ("500 MiB".into(), "variableMAYFLY_MEM".into()));
    assert_eq!(made(&env, &[]), 500);
    assert_eq!(made(&env, &["--mem", "600M"]), 600);
    // An empty variable is ignored.
    env.set("MAYFLY_MEM", "");
    assert_eq!(made(&env, &[]), 400);
}

/// The system's file has a fixed path, so another `/etc` is mounted for one process.
#[test]
fn the_users_file_overrides_the_systems() {
    if !geteuid().is_root() {
        return skipped("the system's file is root's");
    }
    let env = Environment::mock();
    let etc = env.root().join("etc");
    let user = env.home().join(".config/mayfly");
    for directory in [&etc.join("mayfly"), &user] {
        fs::create_dir_all(directory).unwrap();
    }
    // Another user may not have access to the tests' programs.
    let program = env.copy_program(&crate::support::programs::mayfly(), env.root());
    let system = "mem = \"300M\"\nvcpus = 3\ngrace = 3\n";
    fs::write(etc.join("mayfly/config.toml"), system).unwrap();
    fs::write(user.join("config.toml"), "\nmem = \"400M\"\nvcpus = 4\n").unwrap();
    chown(user.join("config.toml"), Some(65_534), Some(65_534)).unwrap();
    let named = env.file("named.toml", "mem = \"500M\"\n");
    let show = |become_user: &str, key: &str, variables: &[(&str, &str)]| {
        let script = format!(
            "mount --bind {} /etc && exec {become_user} {} config show --json {key}",
            etc.display(),
            program.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", env.home());
        command.envs(variables.iter().copied());
        shown(&Answer::new(script, command.output().unwrap()))
    };
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let config = named.to_str().unwrap();
    let all = [("MAYFLY_CONFIG", config), ("MAYFLY_MEM", "600M")];
    let at = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    // Both files are called config.toml; the lines differ.
    assert_eq!(show(nobody, "grace", &[]), at("3 seconds", "config.toml:3"));
    assert_eq!(show(nobody, "vcpus", &all), at("4", "config.toml:3"));
    assert_eq!(show(nobody, "mem", &[]), at("400 MiB", "config.toml:2"));
    assert_eq!(show(nobody, "mem", &all[..1]), at("500 MiB", "named.toml:1"));
    assert_eq!(show(nobody, "mem", &all), at("600 MiB", "variableMAYFLY_MEM"));
    assert_eq!(
        show(&format!("env XDG_CONFIG_HOME=/no {nobody}"), "vcpus", &[]),
        at("3", "config.toml:2")
    );
    // Root does not read another user's file.
    assert_eq!(show("", "vcpus", &[]), at("3", "config.toml:2"));
}

#[test]
fn every_kind_of_default_is_applied() {
    let mut env = Environment::mock();
    env.unset("MAYFLY_BACKEND");
    let elsewhere = env.root().join("elsewhere");
    named(
        &mut env,
        &format!(
            "backend = \"mock\"\nprofile = \"debian-git\"\nvcpus = 2\nttl = \"2m\"\nkeep = true\n\
             max_active_vms = 1\nruntime_dir = \"{}\"\nstate_dir = \"~/state\"\n",
            elsewhere.display()
        ),
    );
    env.unset("MAYFLY_STATE_DIR");
    env.unset("MAYFLY_RUNTIME_DIR");
    let vm = env.run(&["create", "--json"]).json();
    let fields = ["backend", "profile", "vcpu_count", "ttl_seconds", "keep"];
    let found: Vec<&Value> = fields.iter().map(|field| &vm[field]).collect();
    assert_eq!(
        found,
        [&Value::from("mock"), &"debian-git".into(), &2.into(), &120.into(), &true.into()]
    );
    env.run(&["create"]).fails(5, "mayfly: max active VMs reached (1)[..]");
    let id = vm["vm_id"].as_str().unwrap();
    assert!(env.home().join("state/vms").join(id).exists());
    env.run(&["start", id]).prints(&format!("{id}\n"));
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_some());
    env.run(&["exec", id, "--", "true"]).prints("");
    env.rm(id);
}

#[test]
fn a_switch_can_be_turned_off_again() {
    let mut env = Environment::mock();
    named(&mut env, "keep = true\n");
    env.profiles("[profiles.debian-git]\nkeep = true\n");
    let keeps = |env: &Environment, flags: &[&str]| {
        let vm = env.run(&[&["create", "--json"], flags].concat()).json();
        env.clear();
        vm["keep"] == true
    };
    assert!(keeps(&env, &[]));
    for no in ["--keep=no", "--keep=false", "--keep=0"] {
        assert!(!keeps(&env, &[no]));
    }
    env.run(&["create", "--keep=perhaps"])
        .fails(2, "mayfly: --keep: \"perhaps\" is neither yes nor no\n[..]");
    // The next word is not the flag's value.
    env.run(&["create", "--keep", "no"]).fails(
        2,
        "mayfly: 'create' takes only flags, not \"no\"\nhint: '--keep=no' needs the '='\n",
    );
    env.set("MAYFLY_KEEP", "no");
    assert!(!keeps(&env, &[]));
    assert!(keeps(&env, &["--keep"]));
    env.unset("MAYFLY_KEEP");
    env.unset("MAYFLY_CONFIG");
    assert!(!keeps(&env, &[]));
    assert!(keeps(&env, &["-p", "debian-git"]));
    assert!(!keeps(&env, &["-p", "debian-git", "--keep=no"]));
}

/// A kept VM outlives the command that created it.
#[test]
fn run_keeps_a_vm_if_its_profile_says_so() {
    let mut env = Environment::mock();
    env.profiles("[profiles.debian-base]\nkeep = true\n");
    env.run(&["run", "--", "true"]).is(0, "", "mayfly: kept VM [..]\n");
    env.run(&["reap"]).prints("");
    assert_eq!(env.ids().len(), 1);
    env.clear();
}

#[test]
fn everything_is_shown_with_its_origin() {
    let mut env = Environment::mock();
    let path = named(&mut env, "ttl = 90\n");
    env.set("MAYFLY_VCPUS", "3");
    let answer = env.run(&["config", "show", "--backend", "qemu"]);
    let lines: Vec<Vec<&str>> =
        answer.stdout().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["KEY", "VALUE", "FROM"]);
    let at_file = format!("{}:1", path.display());
    for expected in [
        &["backend", "qemu", "--backend"][..],
        &["accel", "-", "built-in"],
        &["vcpus", "3", "MAYFLY_VCPUS"],
        &["ttl", "90", &at_file],
        &["mem", "1G", "profile", "debian-base"],
        &["grace", "10s", "built-in"],
        &["max_active_vms", "4", "limits", "of", "profiles"],
        &["state_dir", env.state().to_str().unwrap(), "MAYFLY_STATE_DIR"],
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} in {answer}");
    }
    let all = env.run(&["config", "show", "--json"]).json();
    assert_eq!(all.as_array().unwrap().len(), lines.len() - 1);
    let own = if geteuid().is_root() {
        "/etc/mayfly/config.toml".to_owned()
    } else {
        env.home().join(".config/mayfly/config.toml").display().to_string()
    };
    env.run(&["config", "path"]).prints(&format!("{own}\n"));
    assert_eq!(env.run(&["config", "path", "--json"]).json(), serde_json::json!({ "path": own }));
    env.run(&["config", "show", "memm"])
        .fails(3, "mayfly: no key \"memm\"\nhint: did you mean \"mem\"?[..]");
    assert!(!env.state().exists(), "looking makes nothing");
}

#[test]
fn mistakes_stop_every_verb_but_not_help() {
    let mut env = Environment::mock();
    let path = named(&mut env, "\n\nmemm = 5\n");
    let at = format!("{}:3: unknown key \"memm\"", path.display());
    env.run(&["status"]).fails(2, &format!("mayfly: {at}\nhint: did you mean \"mem\"? [..]\n"));
    env.run(&["run", "--", "true"]).fails(125, &format!("mayfly: {at}\n[..]"));
    let error = env.run(&["create", "--json"]).json_error(2);
    assert_eq!(error["message"], at);
    env.run(&["run", "--help"]).is(0, "[..]Usage[..]", "");
    env.run(&["create", "--nonsense"]).fails(2, "mayfly: unexpected argument '--nonsense'[..]");
    env.set("MAYFLY_CONFIG", "/no/such/file.toml");
    env.run(&["status"]).fails(
        3,
        "mayfly: MAYFLY_CONFIG: cannot read /no/such/file.toml: No such file or directory\n",
    );
    assert!(!env.state().exists());
}

#[test]
fn files_that_others_can_write_are_refused() {
    let mut env = Environment::mock();
    let config = named(&mut env, "mem = \"400M\"\n");
    let profiles = env.profiles("[profiles.debian-base]\nmem_mib = 300\n");
    for (path, variable) in [(&config, "MAYFLY_CONFIG"), (&profiles, "MAYFLY_PROFILES")] {
        let refused = |why: &str| {
            let said = format!("mayfly: {variable}: {} {why}\nhint: [..]\n", path.display());
            env.run(&["create"]).fails(6, &said);
        };
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        refused("can be written by others (mode 0666)");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        if geteuid().is_root() {
            chown(path, Some(65_534), None).unwrap();
            refused("belongs to user 65534, not to you");
            chown(path, Some(0), None).unwrap();
        }
    }
    env.create(&[]);
    env.clear();
}
