//! Misspelt names: the error suggests a similar one.

use std::fs;

use crate::support::environment::Environment;

#[test]
fn a_misspelt_vm_is_named() {
    let env = Environment::mock();
    let id = env.create(&["--name", "web"]);
    env.create(&["--name", "build-1"]);
    let hint =
        |word: &str| format!("hint: did you mean \"{word}\"? 'mayfly status' lists all VMs\n");
    for verb in [&["start"][..], &["stop"], &["rm"], &["status"]] {
        env.run(&[verb, &["wbe"]].concat())
            .fails(3, &format!("mayfly: no VM \"wbe\"\n{}", hint("web")));
    }
    env.run(&["exec", "build", "--", "true"])
        .fails(125, &format!("mayfly: no VM \"build\"\n{}", hint("build-1")));
    let swapped = format!("{}{}{}", &id[..10], &id[11..], &id[10..11]);
    if swapped != id {
        env.run(&["rm", &swapped]).fails(3, &format!("[..]{}", hint(&id)));
    }
    let error = env.run(&["start", "--json", "wbe"]).json_error(3);
    assert_eq!(error["message"], "no VM \"wbe\"");
    assert!(error["hint"].as_str().unwrap().starts_with("did you mean \"web\"? "));
    env.run(&["start", "nginx"])
        .fails(3, "mayfly: no VM \"nginx\"\nhint: 'mayfly status' lists all VMs\n");
    env.run(&["--state-dir", "other place", "start", "web"])
        .fails(3, "[..]hint: 'mayfly --state-dir 'other place' status' lists all VMs\n");
    env.run(&["exec", "web", "--", "true"]).fails(
        125,
        "mayfly: VM web is created, not started\nhint: start it with 'mayfly start web'\n",
    );
    env.clear();
}

#[test]
fn a_misspelt_profile_is_named() {
    let mut env = Environment::mock();
    env.profiles("[profiles.python]\nextends = \"debian-base\"\n");
    for args in [
        &["create", "--profile", "pyhton"][..],
        &["image", "build", "pyhton"],
        &["template", "build", "-p", "pyhton"],
    ] {
        env.run(args).fails(
            3,
            "mayfly: no profile \"pyhton\"\nhint: did you mean \"python\"? the profiles are [..]\n",
        );
    }
    env.run(&["run", "-p", "debian-bas", "--", "true"])
        .fails(125, "[..]did you mean \"debian-base\"? [..]");
}

#[test]
fn a_misspelt_image_or_template_is_named() {
    let env = Environment::mock();
    let template = "debian-base-0123456789ab";
    fs::create_dir_all(env.artifacts().join("templates").join(template)).unwrap();
    env.run(&["template", "rm", "debian-base-0123456789ba"]).fails(
        3,
        &format!(
            "mayfly: no template \"debian-base-0123456789ba\"\nhint: did you mean \"{template}\"? \
             'mayfly template ls' lists all templates\n"
        ),
    );
    Environment::qemu().run(&["image", "rm", "debian-bsae"]).fails(
        3,
        "mayfly: profile \"debian-bsae\" has no image\nhint: did you mean \"debian-base\"? \
         'mayfly image ls' lists all images\n",
    );
}

#[test]
fn a_misspelt_key_of_a_filter_an_order_or_a_file_is_named() {
    let mut env = Environment::mock();
    for (args, message, word) in [
        (["--filter", "stat=started"], "[..]: VMs cannot be filtered by \"stat\"", "state"),
        (["--filter", "state=startd"], "[..]: \"startd\" is not a state", "started"),
        (["--filter", "backend=quemu"], "[..]: \"quemu\" is not a backend", "qemu"),
        (["--sort", "-nmae"], "[..]: VMs cannot be sorted by \"nmae\"", "name"),
    ] {
        env.run(&[&["status"], &args[..]].concat())
            .fails(2, &format!("mayfly: {message}\nhint: did you mean \"{word}\"? [..]\n"));
    }
    env.run(&["create", "--mem", "lots"])
        .fails(2, "mayfly: [..]\nhint: give MiB or GiB, such as 512M or 2G\n");
    let path = env.profiles("[profiles.python]\nextend = \"debian-base\"\n");
    let message = format!("{}:2: unknown key \"extend\" in [profiles.python]", path.display());
    env.run(&["profiles"]).fails(
        2,
        &format!("mayfly: {message}\nhint: did you mean \"extends\"? the keys are [..]\n"),
    );
    env.unset("MAYFLY_PROFILES");
    let path = env.file("config.toml", "back-end = \"mock\"\n");
    env.set("MAYFLY_CONFIG", &path);
    env.run(&["status"]).fails(
        2,
        &format!(
            "mayfly: {}:1: unknown key \"back-end\"\nhint: did you mean \"backend\"? [..]\n",
            path.display()
        ),
    );
}

#[test]
fn escape_sequences_in_typed_and_suggested_names_are_escaped() {
    let mut env = Environment::mock();
    env.profiles("[profiles.python]\nextends = \"debian-base\"\n");
    let answer = env.run(&["create", "-p", "pyth\u{1b}on"]);
    answer.fails(3, "[..]did you mean \"python\"? [..]");
    assert!(!answer.stderr().contains('\u{1b}'), "{answer}");
}
