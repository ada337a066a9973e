//! Completion: the scripts, and what they ask the program.

use crate::support::environment::Environment;

/// What bash would offer for the last of these words.
fn offered(env: &mut Environment, words: &[&str]) -> Vec<String> {
    env.set("MAYFLY_COMPLETE", "bash");
    env.set("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    env.set("_CLAP_IFS", "\n");
    env.set("_CLAP_COMPLETE_COMP_TYPE", "9");
    env.set("_CLAP_COMPLETE_SPACE", "true");
    let answer = env.run(&[&["--"], words].concat());
    for name in [
        "MAYFLY_COMPLETE",
        "_CLAP_COMPLETE_INDEX",
        "_CLAP_IFS",
        "_CLAP_COMPLETE_COMP_TYPE",
        "_CLAP_COMPLETE_SPACE",
    ] {
        env.unset(name);
    }
    answer.is(0, "[..]", "");
    answer.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn there_is_a_script_for_three_shells() {
    let env = Environment::mock();
    for (shell, word) in
        [("bash", "complete -o"), ("zsh", "#compdef mayfly"), ("fish", "complete --keep-order")]
    {
        let answer = env.run(&["completions", shell]);
        answer.is(0, "[..]COMPLETE[..]", "");
        assert!(answer.stdout().contains(word), "{answer}");
        assert!(answer.stdout().contains("mayfly"), "{answer}");
    }
    assert!(!env.state().exists());
}

#[test]
fn bash_accepts_its_script() {
    let env = Environment::mock();
    let script = env.run(&["completions", "bash"]);
    let path = env.file("completion.bash", script.stdout());
    assert_cmd::Command::new("bash").arg("-n").arg(path).assert().success().stderr("").stdout("");
}

#[test]
fn verbs_and_flags_complete() {
    let mut env = Environment::mock();
    assert_eq!(offered(&mut env, &["mayfly", "sta"]), ["start", "status"]);
    let flags = offered(&mut env, &["mayfly", "create", "--"]);
    for flag in ["--profile", "--vcpus", "--mem", "--ttl", "--name", "--keep"] {
        assert!(flags.iter().any(|offer| offer == flag), "{flag} in {flags:?}");
    }
    assert_eq!(offered(&mut env, &["mayfly", "completions", "z"]), ["zsh"]);
    assert_eq!(offered(&mut env, &["mayfly", "create", "--backend", "m"]), ["mock"]);
}

#[test]
fn names_and_ids_of_vms_complete() {
    let mut env = Environment::mock();
    assert!(offered(&mut env, &["mayfly", "start", ""]).iter().all(|offer| offer.starts_with('-')));
    assert!(!env.state().exists(), "Tab makes nothing");
    let id = env.create(&["--name", "zebra"]);
    for verb in ["start", "stop", "rm", "status", "exec"] {
        assert_eq!(offered(&mut env, &["mayfly", verb, "zeb"]), ["zebra"], "{verb}");
        assert_eq!(offered(&mut env, &["mayfly", verb, &id[..6]]), [id.as_str()], "{verb}");
    }
    env.clear();
}

#[test]
fn what_is_offered_is_where_the_settings_say() {
    let mut env = Environment::mock();
    env.create(&["--name", "zebra"]);
    let state = env.state();
    env.unset("MAYFLY_STATE_DIR");
    let config = env.file("config.toml", &format!("state_dir = \"{}\"\n", state.display()));
    env.set("MAYFLY_CONFIG", config);
    assert_eq!(offered(&mut env, &["mayfly", "start", "zeb"]), ["zebra"]);
    assert_eq!(offered(&mut env, &["mayfly", "config", "show", "max"]), ["max_active_vms"]);
    env.clear();
}

#[test]
fn profiles_complete() {
    let mut env = Environment::mock();
    for words in [
        &["mayfly", "create", "--profile", "debian-b"][..],
        &["mayfly", "run", "-p", "debian-b"],
        &["mayfly", "image", "build", "debian-b"],
    ] {
        assert_eq!(offered(&mut env, words), ["debian-base", "debian-build"]);
    }
}

#[test]
fn templates_complete() {
    let mut env = Environment::mock();
    assert!(offered(&mut env, &["mayfly", "template", "rm", "debian"]).is_empty());
    assert!(!env.artifacts().exists(), "Tab makes nothing");
    std::fs::create_dir_all(env.artifacts().join("templates/debian-base-0123456789ab")).unwrap();
    let offer = offered(&mut env, &["mayfly", "template", "rm", "debian"]);
    assert_eq!(offer, ["debian-base-0123456789ab"]);
    assert_eq!(offered(&mut env, &["mayfly", "template", "b"]), ["build"]);
}

#[test]
fn a_place_that_is_not_in_order_completes_to_nothing() {
    let mut env = Environment::mock();
    std::fs::create_dir(env.state()).unwrap();
    std::fs::write(env.registry(), "{").unwrap();
    assert!(offered(&mut env, &["mayfly", "start", "x"]).is_empty());
    env.profiles("broken");
    assert!(offered(&mut env, &["mayfly", "create", "-p", "x"]).is_empty());
}
