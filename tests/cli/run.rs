//! `mayfly run`.

use crate::support::answer::NOT_ISOLATED;
use crate::support::environment::Environment;

#[test]
fn runs_a_command_and_leaves_nothing() {
    let env = Environment::mock();
    env.run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).is(7, "out\n", "err\n");
    env.feed(&["run", "-i", "--", "cat"], b"through").prints("through");
    env.run(&["run", "-c", "echo $((6 * 7))"]).prints("42\n");
    assert!(env.ids().is_empty());
}

#[test]
fn takes_the_flags_of_create_and_exec() {
    let env = Environment::mock();
    let json = env
        .run(&[
            "run",
            "--json",
            "-p",
            "debian-git",
            "--vcpus",
            "2",
            "--mem",
            "512M",
            "--ttl",
            "5m",
            "--name",
            "once",
            "--keep",
            "--timeout",
            "1m",
            "-e",
            "A=b",
            "-w",
            "/",
            "--",
            "sh",
            "-c",
            "echo $A; pwd",
        ])
        .json();
    assert_eq!((&json["stdout"], &json["cleanup"]), (&"b\n/\n".into(), &().into()));
    let vm = env.status("once");
    assert_eq!((&vm["profile"], &vm["vcpu_count"]), (&"debian-git".into(), &2.into()));
    assert_eq!(
        (&vm["mem_mib"], &vm["ttl_seconds"], &vm["keep"]),
        (&512.into(), &300.into(), &true.into())
    );
    env.clear();
}

#[test]
fn every_failure_of_mayfly_itself_is_125() {
    let mut env = Environment::mock();
    for (args, message) in [
        (&["run", "--nonsense", "--", "true"][..], "unexpected argument '--nonsense' found"),
        (&["run", "--vcpus", "x", "--", "true"], "--vcpus: \"x\" is not a whole number"),
        (
            &["run", "-c", "true", "--", "true"],
            "the argument '--command <STRING>' cannot be used with '[CMD]...'",
        ),
    ] {
        let said = format!("mayfly: {message}\nhint: 'mayfly run --help' shows the usage\n");
        env.run(args).fails(125, &said);
    }
    env.run(&["run", "--vcpus", "99", "--", "true"]).fails(125, "mayfly: --vcpus must be[..]");
    env.run(&["run", "-p", "nope", "--", "true"]).fails(125, "mayfly: no profile[..]");
    env.run(&["run", "--require", "hardware", "--", "true"])
        .fails(125, "mayfly: hardware isolation[..]");
    env.run(&["run", "--timeout", "0", "--", "true"])
        .fails(125, "mayfly: --timeout must be positive\n");
    env.run(&["run", "-t", "--", "true"]).fails(125, "mayfly: '-t' needs a terminal[..]");
    env.set("MAYFLY_MAX_ACTIVE_VMS", "0");
    env.run(&["run", "--", "true"]).fails(125, "mayfly: max active VMs reached (0)[..]");
    assert!(env.ids().is_empty());
}

#[test]
fn a_command_that_fails_or_is_not_found_leaves_nothing_either() {
    let env = Environment::mock();
    env.run(&["run", "--", "no-such-program"]).fails(127, "mayfly: no-such-program: not found\n");
    env.run(&["run", "-c", "kill -9 $$"]).is(137, "", "");
    env.run(&["run", "--timeout", "1s", "-c", "echo some; sleep 999"]).is(
        124,
        "some\n",
        "mayfly: command timed out after 1s\n",
    );
    assert!(env.ids().is_empty());
}

#[test]
fn two_runs_at_once_need_no_lock() {
    let mut env = Environment::mock();
    env.set("MAYFLY_MAX_ACTIVE_VMS", "100");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let env = &env;
            scope.spawn(move || {
                env.run(&["run", "--", "echo", &n.to_string()]).prints(&format!("{n}\n"));
            });
        }
    });
    assert!(env.ids().is_empty());
}

#[test]
fn mock_says_that_it_does_not_isolate() {
    let env = Environment::mock();
    let id = env.create(&["--keep"]);
    let told = |args: &[&str]| {
        let output = env.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(told(&["run", "--", "true"]), NOT_ISOLATED);
    assert_eq!(told(&["start", &id]), NOT_ISOLATED);
    assert_eq!(told(&["exec", &id, "--", "true"]), "");
    // Scripts read it from JSON.
    assert_eq!(told(&["run", "-q", "--", "true"]), "");
    assert_eq!(told(&["run", "--json", "--", "true"]), "");
    env.rm(&id);
}

#[test]
fn a_vm_that_is_kept_is_named_with_its_time_and_what_to_type() {
    let env = Environment::mock();
    env.run(&["run", "--keep", "--name", "box", "--ttl", "1h", "--", "true"]).is(
        0,
        "",
        "mayfly: kept VM box for 59m[..]s: 'mayfly shell box' opens a shell in it, 'mayfly rm box' deletes it\n",
    );
    env.rm("box");
}
