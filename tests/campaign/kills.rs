//! SIGKILL of mayfly at random moments. Afterwards the same command must succeed, before or after a `reap`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::chance::{Chance, share_of, share_of_slow};
use super::ground::{Ended, Ground};

const VERBS: [&str; 12] = [
    "create",
    "start",
    "exec",
    "exec --keep",
    "cp in",
    "cp out",
    "stop",
    "extend",
    "rename",
    "rm",
    "reap",
    "run",
];

/// How long each verb takes without a kill. Kills are spread over that time.
struct Typical(Mutex<BTreeMap<&'static str, Duration>>);

impl Typical {
    fn of(&self, verb: &str) -> Duration {
        self.0.lock().unwrap()[verb]
    }

    fn learn(&self, verb: &'static str, ended: &Ended) {
        if ended.signal.is_none() {
            let mut known = self.0.lock().unwrap();
            let typical = known.entry(verb).or_insert(ended.took);
            *typical = (*typical * 3 + ended.took) / 4;
        }
    }
}

/// The file that is copied into VMs and out of them, as long as `cp` can be killed in the middle of it.
fn copied() -> Vec<u8> {
    b"copied as a whole\n".repeat(1 << 16)
}

/// The local names of the file that is copied in, and of the copies that come out.
fn source(ground: &Ground) -> PathBuf {
    ground.path("copied")
}

/// One thread of a campaign, with its own VMs.
struct Killer<'a> {
    ground: &'a Ground,
    typical: &'a Typical,
    chance: Chance,
    own: Vec<String>,
    /// The directory that it copies into.
    out: PathBuf,
    /// Whether this is the only thread, so that everything is checked after each kill.
    is_alone: bool,
}

impl Killer<'_> {
    /// Kills a command at some moment, notes what it acknowledged, and tries the same command again. Returns whether the
    /// kill came before the command's end.
    fn kill_one(&mut self) -> bool {
        // Few VMs at a time, because each takes memory.
        let verb = if self.own.len() > 3 { "rm" } else { *self.chance.pick(&VERBS) };
        let vm = match verb {
            "create" | "reap" | "run" => None,
            _ if self.own.is_empty() => return self.kill_create(),
            _ => Some(self.own[self.chance.below(self.own.len())].clone()),
        };
        if verb == "create" {
            return self.kill_create();
        }
        let ground = self.ground;
        let id = vm.as_deref().unwrap_or_default();
        let name = format!("{verb}-{id}").replace(' ', "-");
        let (source, inside) = (source(ground).display().to_string(), format!("{id}:copied"));
        let out = self.out.join("copied").display().to_string();
        let args = match verb {
            "start" => vec!["start", id],
            "exec" => vec!["exec", id, "--", "echo", "here"],
            "exec --keep" => vec!["exec", "--keep", id, "--", "echo", "here"],
            "cp in" => vec!["cp", &source, &inside],
            "cp out" => vec!["cp", &inside, &out],
            "stop" => vec!["stop", id],
            "extend" => vec!["extend", id, "1h"],
            "rename" => vec!["rename", id, &name],
            "rm" => vec!["rm", id],
            "reap" => vec!["reap"],
            _ => vec!["run", "--", "echo", "here"],
        };
        if matches!(verb, "exec" | "rm") {
            // Noted before the command, because it may be killed.
            ground.ledger.doubt(id);
            self.own.retain(|other| other != id);
        }
        if verb == "cp out" && ground.phase(id) == "started" {
            ground.ok(&["cp", &source, &inside]);
        }
        let begun = ground.begin(&mut ground.mayfly(&args));
        let pause = self.chance.pause(self.typical.of(verb).mul_f64(1.2));
        let mut ended = begun.end_by_kill_after(pause);
        self.typical.learn(verb, &ended);
        let is_killed = ended.signal.is_some();
        self.judge(verb, id, &name, &ended);
        if is_killed {
            let after = format!("{ended:?}");
            if self.is_alone && self.chance.below(2) == 0 {
                ground.check(&after);
            }
            if let Some(again) = ground.again(&args, vm.as_deref(), &after) {
                ended = again;
                self.judge(verb, id, &name, &ended);
            }
            if self.is_alone {
                ground.check(&after);
                vm.iter().for_each(|id| ground.check_disk(id, &after));
            }
        }
        is_killed
    }

    /// Checks what a command has done, whether it was killed or not.
    fn judge(&self, verb: &str, id: &str, name: &str, ended: &Ended) {
        let ground = self.ground;
        let done = ended.code == Some(0);
        match verb {
            "exec" | "rm" if done => ground.ledger.deleted(id),
            "extend" if done => {
                let left = ground.seconds_left(id);
                assert!(left > 3500.0, "{left}: {ended:#?}");
            }
            "rename" if done => {
                assert_eq!(ground.names_of(id), (name.into(), name.into()), "{ended:#?}");
            }
            "cp in" => {
                let look = "[ ! -e copied ] || wc -c < copied";
                let seen = ground.run(&["exec", "--keep", id, "-c", look]).stdout;
                let whole = copied().len().to_string();
                assert!(seen.trim() == whole || (!done && seen.is_empty()), "{seen}: {ended:#?}");
            }
            "cp out" => {
                let file = self.out.join("copied");
                let seen = fs::read(&file).ok();
                let is_whole = seen.as_deref() == Some(&copied());
                assert!(is_whole || (!done && seen.is_none()), "half a copy: {ended:#?}");
                let _ = fs::remove_file(file);
            }
            _ => {}
        }
        if done && matches!(verb, "exec" | "exec --keep" | "run") {
            assert_eq!(ended.stdout, "here\n", "{ended:#?}");
        }
    }

    fn kill_create(&mut self) -> bool {
        let ground = self.ground;
        let begun = ground.begin(&mut ground.mayfly(&["create"]));
        let pause = self.chance.pause(self.typical.of("create").mul_f64(2.0));
        let ended = begun.end_by_kill_after(pause);
        self.typical.learn("create", &ended);
        let mut created = vec![ended.stdout.clone()];
        if ended.signal.is_some() {
            created.push(ground.again(&["create"], None, "a killed create").unwrap().stdout);
        }
        // A complete line is an acknowledgement, even if the command was then killed.
        for id in created.iter().filter_map(|line| line.strip_suffix('\n')) {
            ground.ledger.created(id);
            self.own.push(id.to_owned());
        }
        if self.is_alone {
            ground.check("a killed create");
        }
        ended.signal.is_some()
    }
}

fn campaign(ground: &Ground, what: &str, kills: usize, threads: usize) {
    let mut chance = Chance::new(&format!("kills, {what}"));
    let typical = Typical(Mutex::default());
    fs::write(source(ground), copied()).unwrap();
    learn(ground, &typical);

    let killed = AtomicUsize::new(0);
    let mut killers: Vec<Killer> = (0..threads)
        .map(|number| Killer {
            ground,
            typical: &typical,
            chance: chance.split(),
            own: Vec::new(),
            out: ground.path(&format!("out-{number}")),
            is_alone: threads == 1,
        })
        .collect();
    killers.iter().for_each(|killer| fs::create_dir(&killer.out).unwrap());
    /// Commands of each thread between checks.
    const ROUND: usize = 5;
    while killed.load(Ordering::SeqCst) < kills {
        std::thread::scope(|scope| {
            for killer in &mut killers {
                let killed = &killed;
                scope.spawn(move || {
                    for _ in 0..ROUND {
                        killed.fetch_add(usize::from(killer.kill_one()), Ordering::SeqCst);
                    }
                });
            }
        });
        ground.check("a round of kills");
    }
    // Dropping the ground kills the processes of VMs but leaves their control groups.
    for id in ground.registry().vms.keys() {
        ground.ok(&["rm", id.as_str()]);
    }
    println!("{} SIGKILLs of mayfly, {what}: 0 broken", killed.into_inner());
}

/// Runs each verb once.
fn learn(ground: &Ground, typical: &Typical) {
    let created = ground.run(&["create"]);
    typical.learn("create", &created);
    let id = created.stdout.trim();
    ground.ledger.created(id);
    let (source, inside) = (source(ground).display().to_string(), format!("{id}:copied"));
    let out = ground.path("out").display().to_string();
    let verbs: [(&'static str, &[&str]); 10] = [
        ("start", &["start", id]),
        ("exec --keep", &["exec", "--keep", id, "--", "true"]),
        ("cp in", &["cp", &source, &inside]),
        ("cp out", &["cp", &inside, &out]),
        ("extend", &["extend", id, "1h"]),
        ("rename", &["rename", id, "lone"]),
        ("stop", &["stop", id]),
        ("rm", &["rm", id]),
        ("reap", &["reap"]),
        ("run", &["run", "--", "true"]),
    ];
    for (verb, args) in verbs {
        let ended = ground.run(args);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        typical.learn(verb, &ended);
    }
    ground.ledger.deleted(id);
    let exec = typical.of("exec --keep") + typical.of("rm");
    typical.0.lock().unwrap().insert("exec", exec);
}

#[test]
fn killed_commands_leave_nothing() {
    campaign(&Ground::new(), "mock, four at a time", share_of(1200), 4);
}

#[test]
fn killed_commands_succeed_when_tried_again() {
    campaign(&Ground::new(), "mock, checked after each", share_of(800), 1);
}

#[test]
fn killed_commands_of_qemu_vms_leave_nothing() {
    campaign(&Ground::of_machines("qemu"), "qemu", share_of_slow(200), 1);
}

#[test]
#[ignore = "needs root, KVM and a machine of its own; make test-firecracker runs it"]
fn killed_commands_of_jailed_vms_leave_nothing() {
    campaign(&Ground::of_machines("firecracker"), "firecracker", share_of_slow(50), 1);
}
