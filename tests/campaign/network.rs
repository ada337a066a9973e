//! VMs with a network: mayfly, the VMM or the network helper is killed. Afterwards nothing is left, or the network is
//! back.

use std::time::{Duration, Instant};

use super::chance::{Chance, share, share_of_slow};
use super::faults::CHANGING;
use super::ground::Ground;
use super::procfs;
use super::support::processes::eventually;
use super::trace::{self, Point};

/// What only VMs with a network need.
const OF_NETWORKS: [&str; 4] = ["bind", "connect", "listen", "sendmsg"];

/// How many points of one call are tried at most, unless the campaign has its full size.
const ENOUGH: usize = 2;

/// How long a helper may live after its VMM. An emulated KVM host is slow.
fn helper_grace(ground: &Ground) -> Duration {
    Duration::from_secs(if ground.machine_is_ours { 10 } else { 1 })
}

const FLAGS: [&str; 6] = ["--net", "egress", "--publish", "0:80", "--publish", "0:53/udp"];

fn ground(backend: &str) -> Ground {
    let ground = Ground::of_machines(backend);
    // Makes the template.
    ground.ok(&[&["run"], &FLAGS[..], &["--", "true"]].concat());
    ground
}

fn created(ground: &Ground) -> String {
    let id = ground.ok(&[&["create", "--keep"], &FLAGS[..]].concat());
    ground.ledger.created(&id);
    id
}

/// The helper on record.
fn helper(ground: &Ground, id: &str) -> Option<i32> {
    let contents = ground.registry();
    let instance = contents.vms.get(&id.parse().unwrap())?.state.instance()?;
    instance.network.as_ref().map(|network| network.process.pid)
}

/// The VM has a VMM and a helper, both on record, and no other process.
fn assert_connected(ground: &Ground, id: &str, at: &str) {
    let recorded = [ground.vmm(id), helper(ground, id)];
    let [Some(vmm), Some(helper)] = recorded else { panic!("{at}: only {recorded:?}") };
    assert!(procfs::is_alive(vmm) && procfs::is_alive(helper), "{at}: {recorded:?} are gone");
    let others = ground.processes();
    let others: Vec<_> =
        others.iter().filter(|process| ![vmm, helper].contains(&process.pid)).collect();
    assert!(others.is_empty(), "{at}: {others:?} are not on record");
    let ports = ground.ok(&["port", id]);
    assert_eq!(ports.lines().count(), 2, "{at}: {ports}");
}

/// Deletes a VM, of which nothing is left.
fn remove(ground: &Ground, id: &str, at: &str) {
    ground.ok(&["rm", id]);
    ground.ledger.deleted(id);
    assert_eq!(ground.processes().len(), 0, "{at}: {:?}", ground.processes());
    ground.check(at);
}

/// Kills a verb at its system calls, and returns at how many. `before` makes its VM.
fn kill_at_calls(
    ground: &Ground,
    chance: &mut Chance,
    words: &[&str],
    before: impl Fn(&Ground) -> String,
) -> usize {
    let args =
        |id: &str| -> Vec<String> { words.iter().map(|word| word.replace('@', id)).collect() };
    let calls = [&CHANGING[..], &OF_NETWORKS].concat();
    let id = before(ground);
    let traced = args(&id);
    let traced: Vec<&str> = traced.iter().map(String::as_str).collect();
    let (ended, mut points) = trace::points(ground, &calls, &traced);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_connected(ground, &id, "no kill");
    remove(ground, &id, "no kill");
    if share() < 1.0 {
        points = chance.part_of(points, ENOUGH);
    }
    for point in &points {
        let id = before(ground);
        let args = args(&id);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let Point { call, occurrence } = point;
        let at = format!("a SIGKILL at {call} {occurrence} of {words:?}");
        let _ = trace::inject(ground, point, "signal=SIGKILL", &args);
        if chance.below(2) == 0 {
            ground.check(&at);
        }
        if ground.phase(&id) != "started" {
            let ended = ground.run(&["start", &id]);
            assert_eq!(ended.code, Some(0), "a start after {at}: {ended:#?}");
        }
        ground.ok(&["exec", &id, "--", "true"]);
        assert_connected(ground, &id, &at);
        remove(ground, &id, &at);
    }
    points.len()
}

#[test]
fn killed_starts_of_vms_with_a_network_leave_nothing() {
    if !trace::is_possible() {
        return;
    }
    let mut chance = Chance::new("kills at calls, network");
    let ground = ground("qemu");
    let starts = kill_at_calls(&ground, &mut chance, &["start", "@"], created);
    let lost = |ground: &Ground| {
        let id = created(ground);
        ground.ok(&["start", &id]);
        procfs::end(helper(ground, &id).unwrap());
        id
    };
    let replaced = kill_at_calls(&ground, &mut chance, &["exec", "@", "--", "true"], lost);
    let tried = starts + replaced;
    println!(
        "{tried} times SIGKILL at a system call while a network helper starts, qemu: 0 broken"
    );
}

/// Waits until `look` finds something.
fn found<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let mut seen = None;
    eventually(what, || {
        seen = look();
        seen.is_some()
    });
    seen.expect("it was seen")
}

/// Kills one of a run's processes at a random moment, and returns which.
fn kill_one(ground: &Ground, chance: &mut Chance, typical: Duration) -> &'static str {
    let victim = *chance.pick(&["the VMM", "the helper", "mayfly"]);
    let words = [&["run"], &FLAGS[..], &["--", "sleep", "1000"]].concat();
    let mut run = ground.begin(&mut ground.mayfly(&words));
    let id = found("a VM", || ground.registry().vms.keys().next().map(ToString::to_string));
    let is_over = |run: &mut super::ground::Begun| run.child.try_wait().unwrap().is_some();
    let target = match victim {
        "mayfly" => None,
        "the VMM" => Some(found("a VMM", || ground.vmm(&id))),
        _ => Some(found("a helper", || helper(ground, &id))),
    };
    let pause = chance.pause(typical);
    std::thread::sleep(pause);
    let Some(pid) = target else {
        run.child.kill().unwrap();
        let _ = run.end();
        return victim;
    };
    let network = helper(ground, &id);
    procfs::end(pid);
    if victim == "the VMM" {
        let ended = Instant::now();
        eventually("the helper's end", || network.is_none_or(|pid| !procfs::is_alive(pid)));
        assert!(ended.elapsed() < helper_grace(ground), "a helper lived for {:?}", ended.elapsed());
        eventually("the end of the run", || {
            // A VM that ends while it continues a template boots instead.
            if ground.phase(&id) == "started" {
                ground.vmm(&id).into_iter().for_each(procfs::end);
            }
            is_over(&mut run)
        });
        let ended = run.end();
        assert_eq!(ended.code, Some(125), "{ended:#?}");
        assert!(ground.registry().vms.is_empty(), "{ended:#?}");
        return victim;
    }
    // The start of a VM fails without a helper, and a VM that runs goes on.
    eventually("a VM that runs, or the end of its start", || {
        is_over(&mut run) || ground.phase(&id) == "started"
    });
    if !is_over(&mut run) {
        ground.ok(&["exec", "--keep", &id, "--", "true"]);
        assert_connected(ground, &id, victim);
        run.child.kill().unwrap();
    }
    let _ = run.end();
    victim
}

fn campaign(backend: &str, full: usize) {
    let mut chance = Chance::new("kills with a network");
    let ground = ground(backend);
    let begun = Instant::now();
    ground.ok(&[&["run"], &FLAGS[..], &["--", "true"]].concat());
    let typical = begun.elapsed();
    let kills = share_of_slow(full);
    for _ in 0..kills {
        let victim = kill_one(&ground, &mut chance, typical);
        ground.ok(&["reap"]);
        assert!(ground.registry().vms.is_empty(), "after {victim}: {:?}", ground.registry());
        assert_eq!(ground.processes().len(), 0, "after {victim}: {:?}", ground.processes());
        ground.check(victim);
    }
    println!("{kills} SIGKILLs of mayfly, a VMM or a network helper, {backend}: 0 broken");
}

#[test]
fn killed_vmms_and_helpers_leave_nothing() {
    campaign("qemu", 200);
}

#[test]
#[ignore = "needs root, KVM and a machine of its own; make test-firecracker runs it"]
fn killed_vmms_and_helpers_of_jailed_vms_leave_nothing() {
    campaign("firecracker", 50);
}
