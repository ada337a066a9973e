//! `mayfly image pull` that is interrupted, killed, or not alone.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::archives::{Image, layer};
use super::pull::{archive, blobs, environment, name_in, named};
use super::pull_access::program;
use crate::support::environment::Environment;
use crate::support::processes::{eventually, lives};

/// What builds have not finished.
fn unfinished(env: &Environment) -> Vec<String> {
    let entries = fs::read_dir(env.artifacts()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".build-")).collect()
}

#[test]
fn skopeo_ends_with_mayfly_and_what_a_killed_pull_left_is_swept() {
    let (mut env, registry) = environment();
    let reference = registry.push(&archive(&named("one")), "team/app");
    // It never comes to an end.
    let pids = env.root().join("pid");
    let hang =
        format!("case $3 in copy) sleep 1000 & echo $! $$ > {}; wait;; esac", pids.display());
    let wrapper = program(&mut env, "skopeo", &format!("{hang}\nexec /usr/bin/skopeo \"$@\""));
    for (signal, code) in
        [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)]
    {
        let _ = fs::remove_file(&pids);
        let mut pull = env.live(&["image", "pull", &reference]);
        let started = || fs::read_to_string(&pids).unwrap_or_default();
        eventually("skopeo copies", || started().ends_with('\n'));
        let pids: Vec<i32> = started().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        pull.signal(signal);
        assert_eq!(pull.child.wait().unwrap().code(), code, "{signal}");
        eventually("skopeo has ended", || !lives(pids[1]));
        if code.is_some() {
            eventually("its children, too", || !lives(pids[0]));
        } else {
            // Nobody but its own group ends this one.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[0]), Signal::SIGKILL);
        }
        assert_eq!(unfinished(&env).len(), usize::from(code.is_none()), "{signal}");
    }
    env.run(&["image", "prune"]).is(0, "[..]/.build-app-[..]\n", "mayfly: freed [..]");
    assert_eq!(unfinished(&env), [""; 0]);
    fs::remove_file(wrapper).unwrap();
    env.run(&["image", "pull", "-q", &reference]).prints("app\n");
    assert_eq!(name_in(&env, "app"), "one");
}

#[test]
fn a_pull_that_is_killed_at_any_moment_can_be_repeated() {
    let (env, registry) = environment();
    let big = "x".repeat(3_000_000);
    let layers: Vec<Vec<u8>> =
        (0..4).map(|number| layer(&[(&format!("etc/{number}"), &big)])).collect();
    let layers = [layers, named("one").layers].concat();
    let reference = registry.push(&archive(&Image { layers, ..named("one") }), "team/app");
    for step in 0..12 {
        let pull = env.live(&["image", "pull", "-q", &reference]);
        std::thread::sleep(Duration::from_millis(40 * step));
        let signal = if step % 3 == 2 { Signal::SIGINT } else { Signal::SIGKILL };
        pull.signal(signal);
        let _ = pull.end();
    }
    env.run(&["image", "pull", "-q", &reference]).prints("app\n");
    assert_eq!(name_in(&env, "app"), "one");
    env.run(&["image", "prune", "-q", "--json"]).json();
    assert_eq!((unfinished(&env), blobs(&env).len()), (Vec::new(), 8));
}

#[test]
fn pulls_at_the_same_time_do_not_disturb_each_other() {
    let (env, registry) = environment();
    let one = registry.push(&archive(&named("one")), "team/one");
    let two = registry.push(&archive(&named("two")), "team/two");
    let pulls: Vec<_> = [&one, &one, &two, &two]
        .iter()
        .map(|reference| env.live(&["run", "-q", "--image", reference, "x"]))
        .collect();
    for (pull, name) in pulls.into_iter().zip(["one", "one", "two", "two"]) {
        pull.end().is(0, &format!("{name} x\n"), "");
    }
    assert_eq!((blobs(&env).len(), unfinished(&env)), (7, Vec::new()));
}
