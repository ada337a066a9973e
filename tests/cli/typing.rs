//! Command lines as people type them who know docker, podman or ssh.

use crate::support::environment::Environment;

#[test]
fn every_word_after_the_first_of_the_command_is_the_commands() {
    let env = Environment::mock();
    let flags = ["--json", "-h", "--help", "--version", "-V", "-q", "--color", "never", "--"];
    let expected = format!("{}\n", flags.join(" "));
    let with = |before: &[&'static str]| [before, &flags].concat();
    env.run(&with(&["run", "echo"])).prints(&expected);
    env.run(&with(&["run", "--", "echo"])).prints(&expected);
    env.run(&with(&["--color", "always", "run", "-e", "A=b", "--mem=512M", "echo"]))
        .prints(&expected);
    env.start(&["--name", "box", "--keep"]);
    env.run(&with(&["exec", "box", "echo"])).prints(&expected);
    env.run(&with(&["exec", "-w", "/", "box", "-u0", "echo"])).prints(&expected);
    env.run(&with(&["exec", "--all", "echo"])).prints(&format!("box | {expected}"));
    env.run(&["exec", "box", "-e", "A=b", "sh", "-c", "echo $A"]).prints("b\n");
    env.run(&["exec", "box", "-e", "A=b", "-c", "echo $A", "-q"]).prints("b\n");
    let answer = env.run(&["exec", "box", "--json", "echo", "--json"]).json();
    assert_eq!(
        (&answer["command"], &answer["stdout"]),
        (&"echo --json".into(), &"--json\n".into())
    );
    env.clear();
}

#[test]
fn only_a_command_that_begins_with_a_hyphen_needs_a_separator() {
    let env = Environment::mock();
    env.run(&["run", "-x"]).fails(125, "mayfly: unexpected argument '-x' found\nhint: [..]\n");
    env.run(&["run", "--", "-x"]).fails(127, "mayfly: -x: not found\n");
    // The mistake is before the command, so the flag after it asks for no JSON.
    env.run(&["run", "--nonsense", "x", "--json"])
        .fails(125, "mayfly: unexpected argument '--nonsense' found\nhint: [..]\n");
    env.run(&["exec", "echo"]).fails(125, "mayfly: no command given\nhint: [..]\n");
    env.start(&["--name", "box"]);
    env.run(&["exec", "--all", "box", "true"]).fails(
        125,
        "mayfly: \"box\" is a VM, and '--all' selects all of them\n\
         hint: leave out one of them; a program of that name needs '--' before it\n",
    );
    env.run(&["exec", "--all", "box", "--", "true"])
        .fails(125, "mayfly: the argument '--all' cannot be used with '[VM]'\nhint: [..]\n");
    assert_eq!(env.status("box")["state"], "started");
    env.clear();
    env.run(&["run", "-c", "true", "echo"])
        .fails(125, "mayfly: the argument '--command <STRING>' cannot be used with[..]\n");
}

#[test]
fn a_profile_in_the_place_of_the_command_is_refused_before_anything_is_made() {
    let mut env = Environment::mock();
    for (args, word) in [
        (&["run", "debian-base"][..], "debian-base"),
        (&["run", "debian-git"], "debian-git"),
        (&["run", "--timeout", "1m", "-t", "debian-git"], "debian-git"),
    ] {
        env.run(args).fails(
            125,
            &format!(
                "mayfly: \"{word}\" is a profile, not a command\n\
                 hint: write 'mayfly run -p {word}'\n"
            ),
        );
    }
    let error = env.run(&["run", "--json", "debian-base"]).json_error(125);
    assert_eq!(error["kind"], "usage");
    assert!(!env.state().exists());
    // These mean the program.
    let missing = "mayfly: debian-git: not found\n";
    env.run(&["run", "--", "debian-git"]).fails(127, missing);
    env.run(&["run", "-p", "debian-base", "debian-git"]).fails(127, missing);
    env.run(&["run", "debian-git", "x"]).fails(127, missing);
    env.set("MAYFLY_PROFILE", "debian-git");
    env.run(&["run", "debian-git"]).fails(127, missing);
    env.run(&["run", "debian-base"]).fails(125, "[..]hint: write 'mayfly run -p debian-base'\n");
}

#[test]
fn ls_and_ps_are_status() {
    let env = Environment::mock();
    env.create(&["--name", "box"]);
    for args in [&["--json"][..], &["-q"], &["box", "--json"], &["--label", "x"]] {
        let status = env.run(&[&["status"], args].concat());
        for alias in ["ls", "ps"] {
            env.run(&[&[alias], args].concat()).prints(status.stdout());
        }
    }
    env.run(&["ps", "nope"]).fails(3, "mayfly: no VM \"nope\"\n[..]");
    env.clear();
}

#[test]
fn quiet_lists_are_ids_and_names_and_image_rm_takes_several() {
    let mut env = Environment::mock();
    let no_image = |name: &str| format!("mayfly: profile \"{name}\" has no image\nhint: [..]\n");
    let all = no_image("debian-base") + &no_image("debian-git");
    env.run(&["image", "rm", "debian-base", "debian-git"]).fails(3, &all);
    env.profiles("[profiles.zebra]\nextends = \"debian-base\"\n");
    let profiles = env.run(&["profiles", "-q"]);
    profiles.is(0, "debian-base\n[..]zebra\n", "");
    assert!(!profiles.stdout().contains(' '), "{profiles}");
    env.run(&["image", "ls", "-q"]).prints("");
    env.run(&["template", "ls", "-q"]).prints("");
    let id = env.run(&["create", "-q"]).line();
    env.run(&["ls", "-q"]).prints(&format!("{id}\n"));
    env.expire(&id);
    env.run(&["reap", "-q"]).prints(&format!("{id}\n"));
}

#[test]
fn a_word_where_only_flags_belong_is_answered_with_the_flag() {
    let env = Environment::mock();
    let create = "'create' takes only flags, not";
    for (args, message, hint) in [
        (
            &["create", "box"][..],
            &*format!("{create} \"box\""),
            "'mayfly create --name box' names the VM",
        ),
        (
            &["create", "--keep", "a", "b"],
            &format!("{create} \"a\""),
            "'mayfly create --name a' names the VM",
        ),
        (
            &["create", "a_b"],
            &format!("{create} \"a_b\""),
            "'--name' names the VM, '-p' its profile",
        ),
        (
            &["create", "debian-git"],
            "\"debian-git\" is a profile, which '-p' names",
            "write 'mayfly create -p debian-git'",
        ),
        (
            &["template", "build", "debian-git"],
            "\"debian-git\" is a profile, which '-p' names",
            "write 'mayfly template build -p debian-git'",
        ),
        (
            &["template", "build", "box"],
            "'template build' takes only flags, not \"box\"",
            "'-p' names the profile",
        ),
    ] {
        env.run(args).fails(2, &format!("mayfly: {message}\nhint: {hint}\n"));
    }
    assert!(!env.state().exists());
}
