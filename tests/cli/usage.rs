//! Help, version, and usage errors.

use crate::support::answer::matches;
use crate::support::environment::Environment;

const VERBS: [&str; 17] = [
    "run",
    "create",
    "start",
    "exec",
    "stop",
    "rm",
    "logs",
    "wait",
    "extend",
    "rename",
    "status",
    "port",
    "reap",
    "profiles",
    "image",
    "doctor",
    "completions",
];

#[test]
fn help_of_every_verb_has_an_example_of_that_verb() {
    let env = Environment::mock();
    for verb in VERBS {
        for flag in ["--help", "-h"] {
            let answer = env.run(&[verb, flag]);
            answer.is(0, "[..]Usage: mayfly [..]", "");
            let examples =
                answer.stdout().split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{answer}"));
            assert!(examples.contains(&format!("mayfly {verb}")), "{answer}");
        }
        env.run(&["help", verb]).is(0, "[..]Examples:\n[..]", "");
    }
    assert!(!env.state().exists());
}

#[test]
fn help_as_a_whole_names_every_verb_and_the_exit_codes() {
    let env = Environment::mock();
    let answer = env.run(&["--help"]);
    answer.is(0, "Run commands in throwaway virtual machines.\n[..]Exit status:\n[..]", "");
    for verb in VERBS {
        assert!(answer.stdout().contains(&format!("\n  {verb} ")), "{verb} in {answer}");
    }
    for line in answer.stdout().lines() {
        assert!(line.chars().count() <= 100, "too wide: {line}");
    }
}

/// The words of every verb and every verb below one.
fn every_verb(command: &clap::Command, words: &[String]) -> Vec<Vec<String>> {
    let subs = command.get_subcommands().filter(|sub| sub.get_name() != "help");
    subs.flat_map(|sub| {
        let words = [words, &[sub.get_name().to_owned()]].concat();
        [vec![words.clone()], every_verb(sub, &words)].concat()
    })
    .collect()
}

#[test]
fn the_help_of_a_verb_fits_a_screen_and_its_details_a_few() {
    let env = Environment::mock();
    let mut whole = Environment::mock();
    whole.set("COLUMNS", "80");
    let help = whole.run(&["-h"]);
    assert!(help.stdout().lines().count() <= 50, "{help}");
    let tree = mayfly::cli::command();
    let verbs = every_verb(&tree, &[]);
    assert!(verbs.len() > 25, "{verbs:?}");
    for words in verbs {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for (flag, columns, most) in [("-h", 80, 50), ("--help", 100, 120)] {
            let mut env = Environment::mock();
            env.set("COLUMNS", columns.to_string());
            let help = env.run(&[&words[..], &[flag]].concat());
            let lines: Vec<&str> = help.stdout().lines().collect();
            assert!(lines.len() <= most, "{} lines: {help}", lines.len());
            for line in &lines {
                assert!(line.chars().count() <= columns, "too wide: {line}");
            }
            let pointers = lines
                .iter()
                .filter(|line| line.contains("See 'mayfly --help' for global options."));
            assert_eq!(pointers.count(), 1, "{help}");
            assert!(!help.stdout().contains("--state-dir "), "{help}");
            let (_, examples) = help.stdout().split_once("Examples:\n").unwrap();
            let (examples, _) = examples.split_once("\n\n").unwrap();
            for example in examples.lines() {
                assert!(example.starts_with("  ") && example.chars().count() <= 80, "{help}");
            }
        }
        let node = words.iter().fold(&tree, |node, word| node.find_subcommand(word).unwrap());
        let details = env.run(&[&words[..], &["--help"]].concat());
        for flag in
            node.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long())
        {
            assert!(details.stdout().contains(&format!("--{flag}")), "--{flag} in {details}");
        }
        env.run(&[&["help"], &words[..]].concat()).prints(details.stdout());
        if node.has_subcommands() {
            let commands = |text: &str| {
                text.split("\n\n").find(|part| part.starts_with("Commands:")).map(str::to_owned)
            };
            let summary = env.run(&[&words[..], &["-h"]].concat());
            assert_eq!(commands(details.stdout()), commands(summary.stdout()));
            assert!(commands(details.stdout()).is_some(), "{details}");
        }
    }
}

#[test]
fn the_version_is_the_packages() {
    let env = Environment::mock();
    for flag in ["--version", "-V"] {
        env.run(&[flag]).prints(&format!("mayfly {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn without_a_verb_help_is_shown_as_an_error() {
    let env = Environment::mock();
    env.run::<&str>(&[]).fails(2, "[..]Usage: mayfly[..]<COMMAND>[..]run [..]");
}

#[test]
fn usage_errors_are_2_and_for_exec_and_run_125() {
    let env = Environment::mock();
    let vmware = "--backend: \"vmware\" is not one of auto, firecracker, qemu, mock";
    let no_vm = "the following required arguments were not provided: <VM>...";
    let not_a_vm = "\"../x\" is not a VM id or name";
    let usage = |verb: &str| format!("'mayfly {verb} --help' shows the usage");
    for (args, message, hint) in [
        (
            &["--nonsense"][..],
            "unexpected argument '--nonsense' found",
            "'mayfly --help' shows the usage",
        ),
        (&["create", "--nonsense"], "unexpected argument '--nonsense' found", &usage("create")),
        (&["start"], no_vm, &usage("start")),
        (&["stop"], no_vm, &usage("stop")),
        (&["rm"], no_vm, &usage("rm")),
        (&["rm", "--", "../x"], not_a_vm, &usage("rm")),
        (&["status", ""], "\"\" is not a VM id or name", &usage("status")),
        (&["reap", "extra"], "unexpected argument 'extra' found", &usage("reap")),
        (&["profiles", "extra"], "unexpected argument 'extra' found", &usage("profiles")),
        (&["image", "bake"], "unrecognized subcommand 'bake'", &usage("image")),
        (&["doctor", "extra"], "unexpected argument 'extra' found", &usage("doctor")),
        (
            &["completions"],
            "the following required arguments were not provided: <SHELL>",
            &usage("completions"),
        ),
        (&["completions", "tcsh"], "\"tcsh\" is not one of bash, zsh, fish", "did you mean 'zsh'?"),
        (&["--backend", "vmware", "status"], vmware, &usage("status")),
    ] {
        env.run(args).fails(2, &format!("mayfly: {message}\nhint: {hint}\n"));
    }
    env.run(&["image"]).fails(2, "Build, pull[..]\nUsage: mayfly image [..]\n  prune [..]");
    let no_vm = "the following required arguments were not provided: <VM>";
    let not_a_vm = "\"a/b\" is not a VM id or name";
    let shell = "'mayfly shell ci' gives you a shell, and keeps the VM";
    for (args, message, hint) in [
        (&["exec"][..], no_vm, &*usage("exec")),
        (&["exec", "ci"], "no command given", shell),
        (&["exec", "--", "true"], no_vm, &usage("exec")),
        (&["exec", "a/b", "--", "true"], not_a_vm, &usage("exec")),
        (
            &["exec", "--nonsense", "ci", "--", "true"],
            "unexpected argument '--nonsense' found",
            &usage("exec"),
        ),
        (&["--backend", "vmware", "exec", "ci", "--", "true"], vmware, &usage("exec")),
        (&["run", "--backend", "vmware", "--", "true"], vmware, &usage("run")),
    ] {
        env.run(args).fails(125, &format!("mayfly: {message}\nhint: {hint}\n"));
    }
}

#[test]
fn words_of_other_programs_get_a_hint() {
    let env = Environment::mock();
    for (args, code, hint) in [
        (&["run", "--cpus", "2", "--", "true"][..], 125, "'--vcpus N' of 'run' and 'create' [..]"),
        (&["run", "--vcpu", "2", "--", "true"], 125, "did you mean '--vcpus'?"),
        (&["run", "--quux", "--", "true"], 125, "'mayfly run --help' shows the usage"),
        (&["list"], 2, "mayfly calls that 'mayfly status'"),
        (&["statsu"], 2, "did you mean 'mayfly status'?"),
        (&["fly"], 2, "'mayfly --help' shows the usage"),
        // Verbs of a group stay in it, and what was typed after a verb is kept.
        (&["image", "list"], 2, "mayfly calls that 'mayfly image ls'"),
        (&["image", "delete", "mine"], 2, "mayfly calls that 'mayfly image rm mine'"),
        (&["template", "list"], 2, "mayfly calls that 'mayfly template ls'"),
        (&["config", "get", "mem"], 2, "mayfly calls that 'mayfly config show mem'"),
        (&["rmi", "mine", "yours"], 2, "mayfly calls that 'mayfly image rm mine yours'"),
        (&["top", "box"], 2, "mayfly calls that 'mayfly exec --keep -t box -- top'"),
        (&["history", "mine"], 2, "mayfly keeps no history; [..]"),
        (&["kill", "box"], 2, "mayfly calls that 'mayfly stop --grace 0s box'"),
        (&["ssh", "box"], 2, "mayfly calls that 'mayfly shell box'"),
        (&["pause", "box"], 2, "a VM cannot be paused; [..]"),
        (&["expose", "80"], 2, "ports are published when a VM is made: [..]"),
        // What is only similar to a verb that deletes is not taken for it.
        (&["rmm"], 2, "'mayfly --help' shows the usage"),
        (&["stopp"], 2, "'mayfly --help' shows the usage"),
        (&["image", "prne"], 2, "'mayfly image --help' shows the usage"),
        (&["image", "buld"], 2, "did you mean 'mayfly image build'?"),
        // Hidden flags are not proposed.
        (&["create", "--accl", "kvm"], 2, "'mayfly create --help' shows the usage"),
        (&["run", "-d", "--", "true"], 125, "a VM in the background is [..]"),
        (&["run", "--network", "none", "--", "true"], 125, "'--net egress' lets a VM reach [..]"),
        (&["create", "--net", "host"], 2, "a VM never has the host's network: [..]"),
        (&["create", "--net", "bridge"], 2, "'--net egress' lets a VM reach the internet, [..]"),
        (&["exec", "--publish", "80:80", "box", "true"], 125, "a VM's network is set when [..]"),
        (
            &["run", "-p", "8080:80", "--", "true"],
            125,
            "'-p' names a profile; '--publish 127.0.0.1:8080:80' publishes a port",
        ),
        (&["create", "-v", "/a:/b"], 2, "'-v' prints what happens, and VMs share no [..]"),
        (&["create", "-m", "2g"], 2, "'--mem SIZE' of 'run' and 'create' sets the memory, [..]"),
        (&["stop", "-t", "1", "box"], 2, "'--grace DURATION' is how long the guest has, [..]"),
        (&["logs", "--since", "1h", "box"], 2, "a console's log has no times; [..]"),
        (&["cp", "-r", "a", "box:"], 2, "directories are copied without this flag"),
        (&["status", "-a"], 2, "all VMs are listed without this flag, [..]"),
        (&["--backend", "qemo", "status"], 2, "did you mean 'qemu'?"),
    ] {
        env.run(args).fails(code, &format!("mayfly: [..]\nhint: {hint}\n"));
    }
}

#[test]
fn a_wrong_value_is_reported_with_its_source() {
    let mut env = Environment::mock();
    let duration = "\"soon\" is not a duration\nhint: [..]";
    let number = "\"x\" is not a whole number\nhint: [..]";
    for (flag, variable, value, why) in [
        ("--ttl", "MAYFLY_TTL", "soon", duration),
        ("--vcpus", "MAYFLY_VCPUS", "x", number),
        ("--mem", "MAYFLY_MEM", "1T", "\"1T\" is not an amount of memory\nhint: [..]"),
        ("--backend", "MAYFLY_BACKEND", "xen", "\"xen\" is not one of auto, [..]"),
        ("--ttl", "MAYFLY_TTL", "2h", ""),
    ] {
        let out_of_range =
            " must be between 1m and 1h, not 2h\nhint: raise [limits] ttl_seconds in [..]";
        let why = if why.is_empty() { out_of_range.to_owned() } else { format!(": {why}") };
        env.run(&["create", flag, value]).fails(2, &format!("mayfly: {flag}{why}\n"));
        let mut command = env.command(&["create"]);
        let output = command.env(variable, value).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(matches(&format!("mayfly: {variable}{why}\n"), &said), "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
    let path = env.file("config.toml", "\nttl = \"2h\"\n");
    env.set("MAYFLY_CONFIG", &path);
    env.run(&["create"]).fails(
        2,
        &format!("mayfly: {}:2: ttl must be between 1m and 1h, not 2h\n[..]", path.display()),
    );
    let profiles = env
        .profiles("[limits]\nttl_seconds = { min = 1, max = 60 }\n[defaults]\nttl_seconds = 9\n");
    env.run(&["create", "--ttl", "2m"]).fails(
        2,
        &format!(
            "mayfly: --ttl must be between 1s and 1m, not 2m\nhint: raise [limits] ttl_seconds in {}:2\n",
            profiles.display()
        ),
    );
}

#[test]
fn with_json_a_usage_error_is_an_object() {
    let env = Environment::mock();
    for (args, code) in [
        (&["create", "--json", "--vcpus", "x"][..], 2),
        (&["--json", "fly"], 2),
        (&["run", "--json"], 125),
        (&["exec", "--json", "ci"], 125),
    ] {
        let error = env.run(args).json_error(code);
        assert_eq!(error["kind"], "usage");
        let message = error["message"].as_str().unwrap();
        assert!(
            !message.starts_with("error:") && !message.contains('\n'),
            "one plain line: {message:?}"
        );
    }
    // After '--', the flag is the command's.
    env.run(&["run", "--nonsense", "--", "x", "--json"]).fails(
        125,
        "mayfly: unexpected argument '--nonsense' found\n\
         hint: 'mayfly run --help' shows the usage\n",
    );
}

#[test]
fn an_error_says_what_and_what_to_do() {
    let env = Environment::mock();
    env.run(&["start", "nope"])
        .fails(3, "mayfly: no VM \"nope\"\nhint: 'mayfly status' lists all VMs\n");
    let error = env.run(&["start", "--json", "nope"]).json_error(3);
    assert_eq!(error["kind"], "not_found");
    assert_eq!(error["message"], "no VM \"nope\"");
    assert_eq!(error["hint"], "'mayfly status' lists all VMs");
}

#[test]
fn a_flag_wins_over_its_variable() {
    let mut env = Environment::mock();
    env.set("MAYFLY_BACKEND", "qemu");
    env.run(&["--backend", "mock", "run", "--", "echo", "hi"]).prints("hi\n");
    env.set("MAYFLY_BACKEND", "mock");
    let elsewhere = env.root().join("elsewhere");
    let flag = elsewhere.to_str().unwrap();
    let id = env.run(&["--state-dir", flag, "create"]).line();
    assert!(elsewhere.join("vms").join(&id).exists());
    assert!(env.ids().is_empty(), "two state directories know nothing of each other");
    env.run(&["rm", "--state-dir", flag, &id]).prints(&format!("{id}\n"));
    // A relative path starts at the current directory.
    let id = env.run(&["--state-dir", "elsewhere", "create"]).line();
    env.run(&["rm", "--state-dir", flag, &id]).prints(&format!("{id}\n"));
}
