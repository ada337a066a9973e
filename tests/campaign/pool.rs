//! SIGKILL of commands that fill the pool, of commands that take its VMs, and of VMs that wait. No VM is used twice, and
//! `reap` finds everything that is left.

use std::collections::BTreeSet;
use std::time::Duration;

use mayfly::model::VmPhase;
use nix::sys::signal::Signal;

use super::chance::{Chance, share_of, share_of_slow};
use super::ground::{Begun, Ended, Ground};
use super::procfs;

/// Fails in a VM that a command has used before.
const USE: &str = "[ ! -e used ] && touch used && echo $MAYFLY_VM";

/// The VMM of a VM that waits.
fn waiting(ground: &Ground, chance: &mut Chance) -> Option<i32> {
    let contents = ground.registry();
    let pids = contents.vms.values().filter_map(|record| match &record.state {
        VmPhase::Pooled { instance } => Some(instance.process.pid),
        _ => None,
    });
    let pids: Vec<i32> = pids.collect();
    (!pids.is_empty()).then(|| *chance.pick(&pids))
}

#[test]
fn no_vm_of_the_pool_is_used_twice_or_lost_whoever_is_killed() {
    campaign(&Ground::new(), share_of(200), Duration::from_millis(120));
}

#[test]
fn no_qemu_vm_of_the_pool_is_used_twice_or_lost_whoever_is_killed() {
    campaign(&Ground::of_machines("qemu"), share_of_slow(200), Duration::from_millis(1500));
}

/// Kills a filler, a taker or a VMM in each round, at most `longest` after it has begun.
fn campaign(ground: &Ground, rounds: usize, longest: Duration) {
    let mut chance = Chance::new("kills, pool");
    let (mut used, mut taken) = (BTreeSet::new(), 0);
    for round in 0..rounds {
        let begin = |args: &[&str]| ground.begin(&mut ground.mayfly(args));
        let take = || begin(&["run", "-v", "--", "sh", "-c", USE]);
        let filler = begin(&["pool", "fill", "-n", "4"]);
        // The pool is empty in the first round.
        let takers: Vec<Begun> = (0..3).map(|_| take()).collect();
        let pause = chance.pause(longest);
        let victim = chance.below(3);
        let mut ended: Vec<Ended> = Vec::new();
        let end = |begun: Begun, is_victim| {
            if is_victim { begun.end_by_kill_after(pause) } else { begun.end() }
        };
        if victim == 2 {
            std::thread::sleep(pause);
            if let Some(vmm) = waiting(ground, &mut chance) {
                procfs::signal(vmm, Signal::SIGKILL);
            }
        }
        let mut victims: Vec<(bool, Begun)> = Vec::new();
        for (index, taker) in takers.into_iter().enumerate() {
            victims.push((victim == 1 && index == 0, taker));
        }
        let filled = end(filler, victim == 0);
        // One whose VM is killed while it fills, or takes, may fail.
        assert!(filled.code == Some(0) || victim != 1, "{filled:#?}");
        for (is_victim, taker) in victims {
            ended.push(end(taker, is_victim));
        }
        for one in ended {
            assert!(one.code == Some(0) || victim != 0, "{one:#?}");
            assert_ne!(one.code, Some(1), "a VM was used twice: {one:#?}");
            taken += usize::from(one.stderr.contains(" pool "));
            if let Some(id) = one.stdout.strip_suffix('\n') {
                assert!(used.insert(id.to_owned()), "VM {id} was used twice: {one:#?}");
            }
        }
        if round % 4 == 0 {
            ground.check("kills around the pool");
        }
    }
    println!("{taken} of {} runs took a VM of the pool", used.len());
    ground.ok(&["pool", "drain"]);
    ground.check("the pool was drained");
    assert_eq!(ground.registry().vms.len(), 0);
}
