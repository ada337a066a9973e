//! SIGKILL of mayfly while it makes a template, and while VMs start as its copies.

use std::time::Duration;

use super::chance::{Chance, share_of};
use super::ground::Ground;
use super::trace::{self, Point};

const RUN: [&str; 4] = ["run", "--", "echo", "here"];

/// How many copies are killed for each killed template build.
const COPIES: usize = 2;

/// A new VM must start without any complaint, whatever was killed before.
fn run(ground: &Ground) -> Duration {
    let ended = ground.run(&RUN);
    let all = (ended.code, ended.stdout.as_str(), ended.stderr.as_str());
    assert_eq!(all, (Some(0), "here\n", ""), "{ended:#?}");
    ended.took
}

/// A VM whose start was killed must start again.
fn start_again(ground: &Ground, id: &str) {
    if ground.phase(id) != "started" {
        ground.ok(&["start", id]);
    }
    let said = ground.ok(&["exec", "--keep", id, "-c", "echo here > file; sync; cat file"]);
    assert_eq!(said, "here");
    ground.check_disk(id, "a killed start");
    ground.check_disk(id, "another look");
    ground.ok(&["rm", id]);
    ground.ledger.deleted(id);
}

fn campaign(ground: &Ground, rounds: usize, chance: &mut Chance) {
    let (maker, copy) = (run(ground), run(ground));
    for _ in 0..rounds {
        for verb in ["start", *chance.pick(&["run", "template build"])] {
            ground.ok(&["template", "rm", "--all"]);
            let vm = (verb == "start").then(|| ground.created());
            let args = match (verb, &vm) {
                ("start", Some(id)) => vec!["start", id],
                ("run", _) => RUN.to_vec(),
                _ => vec!["template", "build"],
            };
            let begun = ground.begin(&mut ground.mayfly(&args));
            let _ = begun.end_by_kill_after(chance.pause(maker.mul_f64(1.1)));
            ground.check(&format!("a {verb} that was killed when it made a template"));
            vm.iter().for_each(|id| start_again(ground, id));
        }
        run(ground);
        for _ in 0..COPIES {
            let vm = ground.created();
            for args in [vec!["start", &vm], RUN.to_vec()] {
                let begun = ground.begin(&mut ground.mayfly(&args));
                let _ = begun.end_by_kill_after(chance.pause(copy.mul_f64(1.1)));
            }
            ground.check("two starts from a template that were killed");
            start_again(ground, &vm);
        }
        run(ground);
    }
    let kills = rounds * 2 * (1 + 2 * COPIES);
    println!("{kills} times SIGKILL while templates were made and copied: 0 broken");
}

#[test]
fn killed_template_builds_and_copies_leave_nothing() {
    let ground = Ground::of_machines("qemu");
    campaign(&ground, share_of(14), &mut Chance::new("templates, qemu"));
}

#[test]
#[ignore = "needs root, KVM and a machine of its own; make test-firecracker runs it"]
fn killed_template_builds_and_copies_of_jailed_vms_leave_nothing() {
    let ground = Ground::of_machines("firecracker");
    campaign(&ground, share_of(8), &mut Chance::new("templates, firecracker"));
}

/// A later start boots any disk it finds, so an incomplete copy must not have the disk's name.
#[test]
fn a_disk_whose_copy_was_killed_is_copied_again() {
    if !trace::is_possible() {
        return;
    }
    let ground = Ground::of_machines("qemu");
    run(&ground);
    for verb in [&["start"][..], &["start", "--cold"]] {
        let id = ground.created();
        let third_part = Point { call: "pwrite64".into(), occurrence: 3 };
        let args = [verb, &[id.as_str()]].concat();
        let killed = trace::inject(&ground, &third_part, "signal=SIGKILL", &args);
        if killed.code == Some(0) {
            println!("SKIPPED: this file system copies by sharing blocks");
            return;
        }
        assert_eq!(killed.signal, Some(9), "{killed:#?}");
        let vm = ground.path("state").join("vms").join(&id);
        assert!(!vm.join("disk.img").exists(), "{killed:#?}");
        ground.check("a start that was killed while it copied the disk");
        start_again(&ground, &id);
    }
}
