//! VMs of the pool: each is taken once, and is a machine of its own from then on.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bench::Bench;
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::{eventually, lives};

/// What a guest says about itself, a line each: random bytes, a UUID, its machine id, its name and the time.
const IDENTITY: &str = "head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; echo; \
                        cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname; date +%s.%N";

fn fill(env: &Environment, count: usize) -> Vec<String> {
    let answer = env.run(&["pool", "fill", "-q", "--mem", "256M", "-n", &count.to_string()]);
    answer.is(0, "[..]", "");
    answer.stdout().lines().map(str::to_owned).collect()
}

fn waiting(env: &Environment) -> usize {
    env.run(&["pool", "ls", "-q"]).stdout().lines().count()
}

fn run(env: &Environment, line: &str) -> Live {
    env.live(&["run", "--json", "--mem", "256M", "--", "sh", "-c", line])
}

fn is_from_pool(answer: &Value) -> bool {
    answer["timings_ms"]["pool"].is_number()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

pub fn taken_vms_are_machines_of_their_own(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &bench.env;
    let mut said: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 4];
    let mut taken = 0;
    while taken < bench.copies {
        let batch = fill(env, 2.min(bench.copies - taken)).len();
        for _ in 0..batch {
            let before = now();
            let answer = run(env, IDENTITY).end().json();
            let after = now();
            assert!(is_from_pool(&answer), "{answer}");
            let lines: Vec<&str> = answer["stdout"].as_str().unwrap().lines().collect();
            let [random, uuid, machine_id, name, time] = lines[..] else { panic!("{answer}") };
            assert_eq!((random.len(), machine_id.len()), (64, 32), "{answer}");
            assert_eq!(name, format!("mayfly-{}", answer["vm_id"].as_str().unwrap()));
            let time: f64 = time.parse().unwrap();
            assert!((before - 0.5..after + 0.5).contains(&time), "{before} {time} {after}");
            for (all, one) in said.iter_mut().zip([random, uuid, machine_id, name]) {
                all.insert(one.to_owned());
            }
        }
        taken += batch;
    }
    for different in said {
        assert_eq!(different.len(), taken, "{different:#?}");
    }
    assert_eq!(env.leftovers(), [""; 0]);
}

pub fn a_race_for_the_pool_has_as_many_winners_as_vms(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &bench.env;
    let takers = if bench.backend == "firecracker" { 6 } else { 16 };
    fill(env, 3);
    let limit = (takers + 1).to_string();
    let racing: Vec<Live> = (0..takers)
        .map(|_| {
            let mut command =
                env.command(&["run", "--json", "--mem", "256M", "--", "echo", "here"]);
            command.env("MAYFLY_MAX_ACTIVE_VMS", &limit);
            Live::start(command)
        })
        .collect();
    let ran: Vec<Value> = racing.into_iter().map(|taker| taker.end().json()).collect();
    let ids: BTreeSet<&str> = ran.iter().map(|one| one["vm_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), takers, "{ran:#?}");
    assert!(ran.iter().all(|one| one["stdout"] == "here\n"), "{ran:#?}");
    assert_eq!(ran.iter().filter(|one| is_from_pool(one)).count(), 3, "{ran:#?}");
    assert_eq!(env.leftovers(), [""; 0]);
}

pub fn a_waiting_vm_ends_by_itself_and_a_kept_one_lives_on(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &mut bench.apart().env;
    // The time of its start is part of its life, so a second fill, which makes no template, is quick enough.
    fill(env, 1);
    let kept = env
        .run(&[
            "create", "-q", "--start", "--mem", "256M", "--name", "box", "--keep", "--ttl", "15m",
        ])
        .line();
    env.profiles("[limits]\npool_ttl_seconds = 8\n");
    let [id] = &fill(env, 1)[..] else { panic!("not one VM") };
    let vmm = env.vmm_if_any(id);
    eventually("the end of the VM", || vmm.is_none_or(|vmm| !lives(vmm)));
    assert_eq!(waiting(env), 0);
    env.run(&["reap"]).is(0, "[..]", "");
    env.run(&["exec", "box", "--keep", "hostname"]).prints("box\n");
    // It boots from the disk that it was taken with.
    env.run(&["exec", "box", "--keep", "-c", "echo kept > /root/note; sync"]).prints("");
    env.run(&["stop", "box"]).prints("box\n");
    env.run(&["start", "box"]).prints("box\n");
    env.run(&["exec", "box", "--keep", "-c", "cat /root/note; hostname"]).prints("kept\nbox\n");
    env.rm(&kept);
    assert_eq!(env.leftovers(), [""; 0]);
}

pub fn a_network_waits_with_its_vm(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &bench.env;
    let allow = ["--mem", "256M", "--allow", "192.0.2.7:80"];
    env.run(&[&["pool", "fill", "-q"], &allow[..]].concat()).is(0, "[..]\n", "");
    let ran = |flags: &[&str]| {
        env.run(&[&["run", "--json"], flags, &["ls", "/sys/class/net"]].concat()).json()
    };
    let without = ran(&["--mem", "256M"]);
    assert!(!is_from_pool(&without));
    // Its helper answers for the name that it was started with.
    assert!(!is_from_pool(&ran(&[&allow[..], &["--name", "box"]].concat())));
    let with = ran(&allow);
    assert!(is_from_pool(&with), "{with}");
    assert_ne!(with["stdout"], without["stdout"]);
    assert_eq!(env.leftovers(), [""; 0]);
}
