//! `--wait-slot`: waiting for a place among the active VMs.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::eventually;

/// An environment with a place for one VM, which a VM has.
fn full() -> Environment {
    let mut env = Environment::mock();
    env.create(&["--name", "first"]);
    env.set("MAYFLY_MAX_ACTIVE_VMS", "1");
    env
}

fn tickets(env: &Environment) -> usize {
    let names = fs::read_dir(env.state().join("locks")).unwrap();
    names
        .filter(|entry| entry.as_ref().unwrap().path().extension() == Some("ticket".as_ref()))
        .count()
}

/// Starts a command that waits, and returns when it does.
#[track_caller]
fn waiting(env: &Environment, args: &[&str]) -> Live {
    let before = tickets(env);
    let live = env.live(args);
    eventually("one more that waits", || tickets(env) == before + 1);
    live
}

#[test]
fn places_are_given_in_order_of_arrival_and_killed_commands_are_skipped() {
    let env = full();
    let order = env.root().join("order");
    let mut waiters: Vec<Live> = (0..7)
        .map(|number| {
            let line = format!("echo {number} >> {}", order.display());
            waiting(&env, &["run", "--wait-slot", "2m", "-c", &line])
        })
        .collect();
    waiters.remove(0).kill();
    waiters.remove(2).kill();
    env.rm("first");
    for waiter in waiters {
        waiter.end().is(0, "", "[..]mayfly: waiting up to 2m for a place for another VM[..]\n");
    }
    assert_eq!(fs::read_to_string(order).unwrap(), "1\n2\n4\n5\n6\n");
    assert_eq!((tickets(&env), env.ids().len()), (0, 0));
}

#[test]
fn a_wait_ends_at_its_limit() {
    let mut env = full();
    let message =
        "no place for another VM within 1s: max active VMs reached (1): there is 1 VM, first";
    let note = "mayfly: waiting up to 1s for a place for another VM";
    env.run(&["create", "--wait-slot", "1s"])
        .fails(5, &format!("{note}\nmayfly: {message}\nhint: 'mayfly rm first'[..]\n"));
    env.run(&["run", "--wait-slot", "1s", "true"])
        .fails(125, &format!("[..]mayfly: {message}\n[..]"));
    let mut other = waiting(&env, &["create", "--wait-slot", "1m", "--name", "second"]);
    env.run(&["create", "--wait-slot", "1s"]).fails(
        5,
        &format!(
            "{note}, after 1 other command\n\
             mayfly: no place for another VM within 1s: other commands came first\n"
        ),
    );
    let error = env.run(&["create", "-q", "--json", "--wait-slot", "1"]).json_error(5);
    assert_eq!(error["kind"], "limit_reached");
    env.set("MAYFLY_WAIT_SLOT", "1s");
    env.run(&["create", "-q"]).fails(5, "mayfly: no place for another VM within 1s: [..]");
    env.run(&["create", "--wait-slot", "0"]).fails(5, "mayfly: max active VMs reached (1): [..]");
    assert!(other.is_running());
    env.rm("first");
    assert_eq!(other.end().code(), 0);
    env.rm("second");
}

#[test]
fn an_expired_vm_makes_a_place() {
    let env = full();
    let waiter = waiting(&env, &["create", "--wait-slot", "1m", "--name", "second"]);
    let first = env.ids().remove(0);
    env.expire(&first);
    assert_eq!(waiter.end().code(), 0);
    env.rm("second");
}

#[test]
fn a_signal_ends_the_wait_and_a_killed_wait_leaves_nothing_after_reap() {
    let env = full();
    let waiter = waiting(&env, &["run", "--wait-slot", "1h", "true"]);
    let begin = Instant::now();
    waiter.signal(Signal::SIGINT);
    assert_eq!(waiter.end().code(), 130);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(tickets(&env), 0);
    let waiter = waiting(&env, &["create", "--wait-slot", "1h"]);
    env.run(&["status", "-q"]).is(0, "[..]\n", "");
    env.run(&["reap"]).prints("");
    waiter.kill();
    env.run(&["reap"]).is(0, "deleted [..].ticket\n", "");
    assert_eq!(tickets(&env), 0);
    env.rm("first");
}

#[test]
fn without_a_wait_the_error_names_the_vms() {
    let mut env = full();
    env.run(&["create"]).fails(
        5,
        "mayfly: max active VMs reached (1): there is 1 VM, first\n\
         hint: 'mayfly rm first' deletes the oldest, '--wait-slot 10m' waits for a place, \
         MAYFLY_MAX_ACTIVE_VMS allows more\n",
    );
    env.set("MAYFLY_MAX_ACTIVE_VMS", "12");
    (2..13).for_each(|number| drop(env.create(&["--name", &format!("vm-{number}")])));
    env.run(&["create"]).fails(
        5,
        "mayfly: max active VMs reached (12): there are 12 VMs, first, vm-2, vm-3, vm-4, vm-5, vm-6, \
         vm-7, vm-8, vm-9, vm-10 and 2 more\nhint: 'mayfly rm first' [..]\n",
    );
    env.clear();
}
