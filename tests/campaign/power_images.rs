//! Power cuts while images are imported and deleted, while templates are made, and while VMs start for the first time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::chance::{Chance, share_of};
use super::ground::Ground;
use super::power::{boot, end_processes};
use super::power_disk::PowerDisk;
use super::tiny;

/// Calls `work` again and again in a thread of each `Chance`, and cuts the power meanwhile.
fn cuts_during<T: Send>(
    works: &[&(dyn Fn(&mut Chance) + Sync)],
    chance: &mut Chance,
    (cuts, pause): (usize, Duration),
    cut: impl Fn() -> T,
) -> Vec<T> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for work in works {
            let (mut chance, is_over) = (chance.split(), &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    work(&mut chance);
                }
            });
        }
        let cut = |_| {
            std::thread::sleep(chance.pause(pause));
            cut()
        };
        let cuts = (0..cuts).map(cut).collect();
        is_over.store(true, Ordering::SeqCst);
        cuts
    })
}

const NAMES: [&str; 2] = ["ant", "bee"];
const CUTS_OF_IMAGES: usize = 5;

/// How many changes were made.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// What was acknowledged of an image: the number of the change, and the content, which is `None` if it was deleted.
type Promise = (u64, Option<&'static str>);

/// The promises by name, without the images that are being changed.
type Promises = BTreeMap<&'static str, Promise>;

fn change_images(ground: &Ground, promises: &Mutex<Promises>, chance: &mut Chance) {
    let (name, content) = (*chance.pick(&NAMES), *chance.pick(&tiny::CONTENTS));
    promises.lock().unwrap().remove(name);
    let content = if chance.below(3) == 0 {
        ground.ok(&["image", "rm", "--force", name]);
        None
    } else {
        ground.ok(&tiny::import(&tiny::archive(content), name));
        Some(content)
    };
    promises.lock().unwrap().insert(name, (CHANGES.fetch_add(1, Ordering::SeqCst), content));
}

fn look_at_images(ground: &Ground, promises: &Promises) {
    ground.check("a power cut");
    ground.ok(&["image", "prune"]);
    ground.check_artifacts("a power cut");
    for name in NAMES {
        let image = ground.artifacts().join(name);
        let found = image.exists().then(|| tiny::content(&image));
        if let Some((_, promised)) = promises.get(name) {
            assert_eq!(found.as_deref(), *promised, "{name} after a power cut");
        }
    }
    let listed = ground.ok(&["profiles", "--json"]);
    let name = NAMES[0];
    assert_eq!(listed.contains("\"ant\""), ground.artifacts().join(name).exists(), "{listed}");
    ground.ok(&tiny::import(&tiny::archive("two"), name));
    assert_eq!(tiny::content(&ground.artifacts().join(name)), "two");
}

#[test]
fn images_are_whole_or_absent_after_power_cuts() {
    let mut chance = Chance::new("power cuts, images");
    let rounds = share_of(8);
    for number in 0..rounds {
        let mut ground = Ground::new();
        let Some(disk) = PowerDisk::mount(ground.base(), 768, [1, 30][number % 2]) else { return };
        tiny::prepare(&ground);
        disk.sync();
        let promises = Mutex::default();
        let size = (CUTS_OF_IMAGES, Duration::from_millis(900));
        let cuts = cuts_during(
            &[&|chance| change_images(&ground, &promises, chance)],
            &mut chance,
            size,
            || {
                let before = promises.lock().unwrap().clone();
                let cut = disk.cut();
                let after = promises.lock().unwrap().clone();
                // A change may have begun before the cut, and another may have ended after it.
                let kept =
                    before.into_iter().filter(|(name, promise)| after.get(name) == Some(promise));
                (cut, kept.collect::<Promises>())
            },
        );
        for (cut, promises) in cuts {
            boot(&mut ground, &disk, &cut);
            look_at_images(&ground, &promises);
            disk.forget(cut);
        }
    }
    println!(
        "{} power cuts while images were imported and deleted: 0 broken",
        rounds * CUTS_OF_IMAGES
    );
}

const CUTS_OF_MACHINES: usize = 3;

/// VMs that were created, and for each whether its guest has synced a file.
type Machines = BTreeMap<String, bool>;

fn start_machines(ground: &Ground, machines: &Mutex<Machines>) {
    let id = ground.created();
    machines.lock().unwrap().insert(id.clone(), false);
    ground.ok(&["start", &id]);
    ground.ok(&["exec", "--keep", &id, "-c", "echo kept > /root/file && sync"]);
    machines.lock().unwrap().insert(id.clone(), true);
    ground.ok(&["stop", &id]);
}

fn make_templates(ground: &Ground) {
    // It is refused while a VM starts from it.
    let _ = ground.run(&["template", "rm", "--all"]);
    ground.ok(&["template", "build"]);
}

fn look_at_machines(ground: &Ground, machines: &Machines) {
    ground.check("a power cut");
    for (id, has_file) in machines.iter().rev().take(2) {
        let began = ground.run(&["start", id]);
        assert_eq!(began.code, Some(0), "after a power cut: {began:#?}");
        let expected = if *has_file { "kept" } else { "again" };
        let look = "[ -s /root/file ] || echo again > /root/file; cat /root/file";
        let said = ground.ok(&["exec", "--keep", id, "-c", look]);
        assert!(said == expected || (!has_file && said == "kept"), "{id} says {said:?}");
        ground.ok(&["rm", id]);
        ground.ledger.deleted(id);
    }
    // A template that was being made is made again, without a word. One that was complete is not synced, and what the cut
    // has damaged is noticed.
    let ended = ground.run(&["run", "--", "echo", "here"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "here\n"), "{ended:#?}");
    let was_noticed = ended.stderr.starts_with("mayfly: template ")
        && ended.stderr.ends_with(" and will be rebuilt\n")
        && ended.stderr.lines().count() == 1;
    assert!(ended.stderr.is_empty() || was_noticed, "{ended:#?}");
    ground.check("starts after a power cut");
}

#[test]
fn templates_and_disks_of_qemu_vms_survive_power_cuts() {
    let mut chance = Chance::new("power cuts, qemu");
    let rounds = share_of(10);
    for number in 0..rounds {
        let mut ground = Ground::new();
        let Some(disk) = PowerDisk::mount(ground.base(), 2048, [1, 30][number % 2]) else { return };
        ground.run_machines("qemu");
        disk.sync();
        let machines = Mutex::default();
        let size = (CUTS_OF_MACHINES, Duration::from_secs(4));
        let cuts = cuts_during(
            &[&|_| start_machines(&ground, &machines), &|_| make_templates(&ground)],
            &mut chance,
            size,
            || {
                let machines = machines.lock().unwrap().clone();
                (disk.cut(), machines)
            },
        );
        end_processes(&ground);
        for (cut, machines) in cuts {
            boot(&mut ground, &disk, &cut);
            machines.keys().for_each(|id| ground.ledger.created(id));
            look_at_machines(&ground, &machines);
            end_processes(&ground);
            disk.forget(cut);
        }
    }
    println!(
        "{} power cuts while templates were made and VMs started: 0 broken",
        rounds * CUTS_OF_MACHINES
    );
}
