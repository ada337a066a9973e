//! Power cuts: what mayfly has acknowledged is there when the host is up again, and everything else is whole or absent.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::chance::{Chance, share_of};
use super::ground::Ground;
use super::ledger::Ledger;
use super::power_disk::{PowerCut, PowerDisk};
use super::procfs;

/// How often the power is cut while one set of commands runs.
const CUTS: usize = 10;

/// What was acknowledged about VMs that exist.
#[derive(Debug, Default, Clone)]
struct Changes {
    named: BTreeSet<String>,
    extended: BTreeSet<String>,
}

/// A cut, and what had been acknowledged before.
struct Moment {
    cut: PowerCut,
    promised: BTreeSet<String>,
    gone: BTreeSet<String>,
    changes: Changes,
    /// The generation of the registry must not be smaller.
    generation: u64,
}

struct Work<'a> {
    ground: &'a Ground,
    changes: Mutex<Changes>,
}

impl Work<'_> {
    /// Creates, changes or deletes a VM, and notes what was acknowledged. Returns whether a power cut must not undo it.
    fn step(&self, own: &mut Vec<String>, chance: &mut Chance) -> bool {
        let ground = self.ground;
        let changed = |change: fn(&mut Changes, String), id: &str| {
            change(&mut self.changes.lock().unwrap(), id.to_owned());
        };
        if own.len() < 2 || chance.below(3) == 0 {
            own.push(ground.created());
            return true;
        }
        let id = own[chance.below(own.len())].clone();
        let verb = chance.below(6);
        match verb {
            0 => {
                ground.ok(&["rename", &id, &name_of(&id)]);
                changed(|changes, id| _ = changes.named.insert(id), &id);
            }
            1 => {
                ground.ok(&["extend", &id, "1h"]);
                changed(|changes, id| _ = changes.extended.insert(id), &id);
            }
            2 => _ = ground.run(&["start", &id]),
            3 => _ = ground.run(&["stop", &id]),
            4 => _ = ground.ok(&["run", "--", "true"]),
            _ => {
                ground.ledger.doubt(&id);
                ground.ok(&["rm", &id]);
                ground.ledger.deleted(&id);
                own.retain(|other| *other != id);
            }
        }
        !(2..5).contains(&verb)
    }

    /// Cuts the power right after commands: nothing that comes later can have written what they left to the kernel.
    fn alone(&self, disk: &PowerDisk, chance: &mut Chance) -> Vec<Moment> {
        let mut own = Vec::new();
        let cuts = (0..CUTS).map(|_| {
            let steps = 1 + chance.below(4);
            let is_kept = (0..steps).map(|_| self.step(&mut own, chance)).last();
            let generation =
                is_kept.filter(|kept| *kept).map(|_| self.ground.registry().generation);
            Moment { generation: generation.unwrap_or(0), ..self.cut(disk) }
        });
        cuts.collect()
    }

    /// Cuts the power at random moments while several commands run.
    fn together(&self, disk: &PowerDisk, chance: &mut Chance) -> Vec<Moment> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (mut chance, is_over) = (chance.split(), &is_over);
                scope.spawn(move || {
                    let mut own = Vec::new();
                    while !is_over.load(Ordering::SeqCst) {
                        self.step(&mut own, &mut chance);
                    }
                });
            }
            let cuts = (0..CUTS).map(|_| {
                std::thread::sleep(chance.pause(Duration::from_millis(300)));
                self.cut(disk)
            });
            let cuts = cuts.collect();
            is_over.store(true, Ordering::SeqCst);
            cuts
        })
    }

    fn cut(&self, disk: &PowerDisk) -> Moment {
        let ground = self.ground;
        let promised: BTreeSet<String> = ground.ledger.promised().into_iter().collect();
        let gone = ground.ledger.gone().into_iter().collect();
        let changes = self.changes.lock().unwrap().clone();
        let cut = disk.cut();
        // A deletion may have begun before the cut.
        let still: BTreeSet<String> = ground.ledger.promised().into_iter().collect();
        let promised = promised.intersection(&still).cloned().collect();
        Moment { cut, promised, gone, changes, generation: 0 }
    }
}

fn name_of(id: &str) -> String {
    format!("n-{id}")
}

/// Ends everything that runs on the disk.
pub fn end_processes(ground: &Ground) {
    for _ in 0..10 {
        ground.processes().iter().for_each(|process| procfs::end(process.pid));
    }
}

/// Starts the host again, and forgets what was promised.
pub fn boot(ground: &mut Ground, disk: &PowerDisk, cut: &PowerCut) {
    disk.boot(cut);
    // It is in memory on most hosts.
    let _ = fs::remove_dir_all(ground.path("run"));
    ground.ledger = Ledger::default();
    ground.generation = AtomicU64::new(0);
}

/// Commands and cuts; then a look at what each cut has left.
fn round(ground: &mut Ground, disk: &PowerDisk, chance: &mut Chance) {
    let work = Work { ground, changes: Mutex::default() };
    let moments =
        if chance.below(2) == 0 { work.alone(disk, chance) } else { work.together(disk, chance) };
    end_processes(ground);
    for moment in moments {
        boot(ground, disk, &moment.cut);
        moment.promised.iter().for_each(|id| ground.ledger.created(id));
        moment.gone.iter().for_each(|id| ground.ledger.deleted(id));
        ground.generation = AtomicU64::new(moment.generation);
        look_at_vms(ground, &moment);
        end_processes(ground);
        disk.forget(moment.cut);
    }
}

fn look_at_vms(ground: &Ground, moment: &Moment) {
    ground.check("a power cut");
    for id in &moment.promised {
        if moment.changes.named.contains(id) {
            assert_eq!(ground.names_of(id), (name_of(id), name_of(id)), "after a power cut");
        }
        if moment.changes.extended.contains(id) {
            let left = ground.seconds_left(id);
            assert!(left > 3000.0, "{left} after a power cut");
        }
    }
    for id in moment.promised.iter().take(2) {
        ground.ok(&["start", id]);
        assert_eq!(ground.ok(&["exec", "--keep", id, "--", "echo", "again"]), "again");
    }
    assert_eq!(ground.ok(&["run", "--", "echo", "here"]), "here");
    ground.check("starts after a power cut");
}

#[test]
fn acknowledged_changes_of_vms_survive_power_cuts() {
    let mut chance = Chance::new("power cuts, VMs");
    let rounds = share_of(13);
    for number in 0..rounds {
        let mut ground = Ground::new();
        // Once the kernel commits seldom, so that little is on the disk, and once often.
        let Some(disk) = PowerDisk::mount(ground.base(), 48, [1, 30][number % 2]) else { return };
        round(&mut ground, &disk, &mut chance);
    }
    println!("{} power cuts while VMs were created, changed and deleted: 0 broken", rounds * CUTS);
}
