//! SIGKILL of mayfly at random moments.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::chance::{Chance, share_of};
use super::ground::{Ended, Ground};

const VERBS: [&str; 10] =
    ["create", "start", "exec", "exec --keep", "stop", "extend", "rename", "rm", "reap", "run"];

/// How long each verb takes without a kill. Kills are spread over that time.
struct Typical(Mutex<BTreeMap<&'static str, Duration>>);

impl Typical {
    fn of(&self, verb: &str) -> Duration {
        self.0.lock().unwrap()[verb]
    }

    fn learn(&self, verb: &'static str, ended: &Ended) {
        if ended.signal.is_none() {
            let mut known = self.0.lock().unwrap();
            let typical = known.get_mut(verb).unwrap();
            *typical = (*typical * 3 + ended.took) / 4;
        }
    }
}

/// Kills a command on one of this thread's own VMs at some moment, and notes what it acknowledged.
fn kill_one(ground: &Ground, typical: &Typical, own: &mut Vec<String>, chance: &mut Chance) {
    let verb = *chance.pick(&VERBS);
    let vm = match verb {
        "create" | "reap" | "run" => None,
        _ if own.is_empty() => return kill_create(ground, typical, own, chance),
        _ => Some(own[chance.below(own.len())].clone()),
    };
    let id = vm.as_deref().unwrap_or_default();
    let name = format!("{verb}-{id}");
    let args = match verb {
        "create" => return kill_create(ground, typical, own, chance),
        "start" => vec!["start", id],
        "exec" => vec!["exec", id, "--", "echo", "here"],
        "exec --keep" => vec!["exec", "--keep", id, "--", "echo", "here"],
        "stop" => vec!["stop", id],
        "extend" => vec!["extend", id, "1h"],
        "rename" => vec!["rename", id, &name],
        "rm" => vec!["rm", id],
        "reap" => vec!["reap"],
        _ => vec!["run", "--", "echo", "here"],
    };
    let deletes = matches!(verb, "exec" | "rm");
    if deletes {
        // Noted before the command, because it may be killed.
        ground.ledger.doubt(id);
        own.retain(|other| other != id);
    }
    let begun = ground.begin(&mut ground.mayfly(&args));
    let ended = begun.end_by_kill_after(chance.pause(typical.of(verb).mul_f64(1.3)));
    typical.learn(verb, &ended);
    let is_tried_again = ended.signal.is_some() && chance.below(2) == 0;
    let again = is_tried_again.then(|| ground.again(&args, vm.as_deref(), &format!("{ended:?}")));
    let ended = again.flatten().unwrap_or(ended);
    if ended.code == Some(0) && deletes {
        ground.ledger.deleted(id);
    }
    if ended.code == Some(0) && verb == "extend" {
        let left = ground.seconds_left(id);
        assert!(left > 3500.0, "{left}: {ended:#?}");
    }
    if ended.code == Some(0) && verb == "rename" {
        assert_eq!(ground.names_of(id), (name.clone(), name), "{ended:#?}");
    }
    if ended.code == Some(0) && matches!(verb, "exec" | "exec --keep" | "run") {
        assert_eq!(ended.stdout, "here\n", "{ended:#?}");
    }
}

fn kill_create(ground: &Ground, typical: &Typical, own: &mut Vec<String>, chance: &mut Chance) {
    let begun = ground.begin(&mut ground.mayfly(&["create"]));
    let ended = begun.end_by_kill_after(chance.pause(typical.of("create").mul_f64(2.0)));
    typical.learn("create", &ended);
    // A complete line is an acknowledgement, even if the command was then killed.
    if let Some(id) = ended.stdout.strip_suffix('\n') {
        ground.ledger.created(id);
        own.push(id.to_owned());
    }
}

fn campaign(ground: &Ground, kills: usize, threads: usize, chance: &mut Chance) {
    let typical = Typical(Mutex::new(BTreeMap::new()));
    let mut lone = ground.created();
    for verb in VERBS {
        let args: Vec<&str> = match verb {
            "create" | "reap" => vec![verb],
            "run" => vec!["run", "--", "true"],
            "start" | "stop" | "rm" => vec![verb, &lone],
            "extend" => vec!["extend", &lone, "1h"],
            "rename" => vec!["rename", &lone, "lone"],
            "exec" => continue,
            _ => vec!["exec", "--keep", &lone, "--", "true"],
        };
        let ended = ground.run(&args);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        typical.0.lock().unwrap().insert(verb, ended.took);
        match verb {
            "create" => {
                ground.ledger.created(ended.stdout.trim());
                ground.ok(&["rm", ended.stdout.trim()]);
                ground.ledger.deleted(ended.stdout.trim());
            }
            "rm" => ground.ledger.deleted(&std::mem::take(&mut lone)),
            _ => {}
        }
    }
    let exec = typical.of("exec --keep") + typical.of("rm");
    typical.0.lock().unwrap().insert("exec", exec);

    const ROUND: usize = 5;
    let mut owned: Vec<Vec<String>> = vec![Vec::new(); threads];
    for round in 0..kills.div_ceil(threads * ROUND) {
        std::thread::scope(|scope| {
            for own in &mut owned {
                let (mut chance, typical) = (chance.split(), &typical);
                scope.spawn(move || {
                    (0..ROUND).for_each(|_| kill_one(ground, typical, own, &mut chance));
                });
            }
        });
        ground.check(&format!("round {round} of kills"));
    }
    // Dropping the ground kills the processes of VMs but leaves their control groups.
    for id in ground.registry().vms.keys() {
        ground.ok(&["rm", id.as_str()]);
    }
}

#[test]
fn killed_commands_leave_nothing() {
    let mut chance = Chance::new("kills, mock");
    campaign(&Ground::new(), share_of(500), 4, &mut chance);
}

#[test]
fn killed_commands_of_qemu_vms_leave_nothing() {
    let mut chance = Chance::new("kills, qemu");
    campaign(&real_machines("qemu"), share_of(50), 1, &mut chance);
}

#[test]
#[ignore = "needs root, KVM and a machine of its own; make test-firecracker runs it"]
fn killed_commands_of_jailed_vms_leave_nothing() {
    let mut chance = Chance::new("kills, firecracker");
    campaign(&real_machines("firecracker"), share_of(50), 1, &mut chance);
}

fn real_machines(backend: &str) -> Ground {
    let mut ground = Ground::new();
    ground.run_machines(backend);
    ground
}
