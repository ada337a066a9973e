//! `mayfly pool`: VMs that wait, and the commands that take them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::{self, eventually, lives};

/// Fills the pool, and returns the ids.
fn fill(env: &Environment, flags: &[&str]) -> Vec<String> {
    let answer = env.run(&[&["pool", "fill", "-q"], flags].concat());
    answer.is(0, "[..]", "");
    answer.stdout().lines().map(str::to_owned).collect()
}

/// The ids of the VMs that wait.
fn pool(env: &Environment) -> Vec<String> {
    let listed = env.run(&["pool", "ls", "-q"]);
    listed.is(0, "[..]", "");
    listed.stdout().lines().map(str::to_owned).collect()
}

/// The VM that a command ran in, and whether it came from the pool.
fn ran(env: &Environment, flags: &[&str]) -> (String, bool) {
    let answer = env.run(&[&["run", "--json"], flags, &["--", "true"]].concat()).json();
    let id = answer["vm_id"].as_str().unwrap().to_owned();
    (id, answer["timings_ms"]["pool"].is_number())
}

#[test]
fn a_run_takes_a_vm_that_waits() {
    let env = Environment::mock();
    let ids = fill(&env, &["-n", "2"]);
    assert_eq!((ids.len(), env.ids().len()), (2, 0));
    let listed = env.run(&["pool", "ls", "--json"]).json();
    let listed = listed.as_array().unwrap();
    assert!(listed.len() == 2 && listed.iter().all(|vm| vm["state"] == "pooled"), "{listed:?}");
    env.run(&["pool", "ls"]).prints(
        "VM            PROFILE      RUNS ON  SIZE       LEFT\n\
         [..]  debian-base  mock     1 CPU, 1G  9m5[..]s\n\
         [..]  debian-base  mock     1 CPU, 1G  9m5[..]s\n",
    );
    // A second fill has nothing to do.
    env.run(&["pool", "fill", "-n", "2"]).is(0, "", "mayfly: 2 of this kind wait already\n");
    env.run(&["pool", "fill", "-n", "2", "--json"]).is(0, "", "");

    let (first, from_pool) = ran(&env, &[]);
    assert!(from_pool && ids.contains(&first));
    env.run(&["run", "--", "sh", "-c", "echo $MAYFLY_VM; exit 7"]).is(7, "[..]\n", "");
    assert_eq!(pool(&env), [""; 0]);
    assert_eq!((ran(&env, &[]).1, env.ids().len()), (false, 0));
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn a_taken_vm_is_as_its_user_wants_it() {
    let mut env = Environment::mock();
    env.profiles("[profiles.debian-base]\nenv = { FROM = 'before' }\n");
    let [id] = &fill(&env, &[])[..] else { panic!("not one VM") };
    env.profiles("[profiles.debian-base]\nenv = { FROM = 'profile' }\n");
    let flags = ["--start", "--json", "--name", "box", "--label", "a=b", "--ttl", "20m", "--keep"];
    let created = env.run(&[&["create"], &flags[..]].concat()).json();
    let expected: [(&str, Value); 6] = [
        ("vm_id", id.as_str().into()),
        ("name", "box".into()),
        ("state", "started".into()),
        ("ttl_seconds", 1200.into()),
        ("keep", true.into()),
        ("labels", serde_json::json!({ "a": "b" })),
    ];
    for (field, value) in expected {
        assert_eq!(created[field], value, "{created}");
    }
    let left = created["expires_at"].as_f64().unwrap() - created["created_at"].as_f64().unwrap();
    assert!((left - 1200.0).abs() < 1.0, "{left}");
    env.run(&["exec", "box", "-c", "echo $FROM"]).is(0, "profile\n", "[..]");
    let manifest = fs::read_to_string(env.state().join("vms").join(id).join("manifest.json"));
    let manifest = manifest.unwrap();
    assert!(manifest.contains(r#""name":"box""#) && manifest.contains(r#""owner":null"#));
    assert!(!manifest.contains("in_pool"), "{manifest}");
    // It is a VM like any other.
    env.run(&["stop", "box"]).prints("box\n");
    env.run(&["start", "box"]).is(0, "box\n", "");
    env.run(&["rename", "box", "other"]).prints("other\n");
    env.rm("other");
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn what_differs_starts_as_usual() {
    let env = Environment::mock();
    fill(&env, &["--mem", "512M"]);
    let others: [&[&str]; 4] =
        [&[], &["--mem", "512M", "--vcpus", "2"], &["--mem", "512M", "--cold"], &["--mem", "513"]];
    for other in others {
        assert!(!ran(&env, other).1, "{other:?}");
    }
    env.run(&["run", "--mem", "512M", "--require", "hardware", "true"]).fails(125, "[..]");
    assert_eq!(pool(&env).len(), 1);
    // The name is checked before.
    env.create(&["--name", "taken"]);
    env.run(&["run", "--mem", "512M", "--name", "taken", "true"]).fails(125, "[..]exists[..]");
    assert_eq!(pool(&env).len(), 1);
    assert!(ran(&env, &["--mem", "512M", "--name", "free"]).1);
    env.run(&["pool", "fill", "--publish", "8080:80"]).fails(
        2,
        "mayfly: VMs with published ports cannot wait in the pool\nhint: leave out --publish\n",
    );
    env.rm("taken");
}

#[test]
fn waiting_vms_are_nobodys() {
    let mut env = Environment::mock();
    env.set("MAYFLY_MAX_ACTIVE_VMS", "1");
    let ids = fill(&env, &["-n", "2"]);
    let id = ids[0].as_str();
    env.run(&["status", "-q"]).prints("");
    env.run(&["status", "-q", "--all"]).prints("[..]\n[..]\n");
    env.run(&["status", "-q", "--all", "--filter", "state=pooled"]).prints("[..]\n[..]\n");
    assert_eq!(env.status(id)["state"], "pooled");
    env.file("notes", "");
    let destination = format!("{id}:");
    let hint =
        "\nhint: it waits for the next 'run' of its kind; 'mayfly pool drain' deletes such VMs\n";
    let refused: [(&[&str], i32, &str); 8] = [
        (&["exec", id, "true"], 125, "is pooled, not started"),
        (&["cp", "notes", &destination], 4, "is pooled, not started"),
        (&["start", id], 4, "cannot be started: it is pooled"),
        (&["stop", id], 4, "cannot be stopped: it is pooled"),
        (&["extend", id, "20m"], 4, "cannot be extended: it is pooled"),
        (&["rename", id, "x"], 4, "cannot be renamed: it is pooled"),
        (&["wait", id], 4, "cannot be waited for: it is pooled"),
        (&["wait", "--for", "started", id], 4, "cannot be waited for: it is pooled"),
    ];
    for (args, code, why) in refused {
        env.run(args).fails(code, &format!("mayfly: [..]VM {id} {why}{hint}"));
    }
    env.run(&["exec", "--all", "true"]).fails(125, "mayfly: no VM to run the command in\n[..]");
    for args in [["stop", "--all"], ["rm", "--all"], ["start", "--all"]] {
        env.run(&args).is(
            0,
            "",
            &format!("mayfly: no VM to {}\n", args[0].replace("rm", "delete")),
        );
    }
    env.run(&["rm", "--filter", "profile=debian-base"]).is(0, "", "mayfly: no VM to delete\n");
    assert_eq!(pool(&env).len(), 2);
    // They do not count, but one that is taken does.
    let box_id = env.run(&["create", "-q", "--start", "--keep"]).line();
    assert!(ids.contains(&box_id));
    env.run(&["run", "true"]).fails(125, "mayfly: max active VMs reached (1): [..]");
    assert_eq!(pool(&env).len(), 1);
    env.rm(&box_id);
    let last = pool(&env).remove(0);
    env.rm(&last);
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn drain_deletes_those_of_a_profile_or_all() {
    let env = Environment::mock();
    fill(&env, &[]);
    let [git] = &fill(&env, &["-p", "debian-git"])[..] else { panic!("not one VM") };
    env.run(&["pool", "drain", "-p", "nope"]).fails(3, "mayfly: no profile \"nope\"\n[..]");
    env.run(&["pool", "drain", "-p", "debian-git"]).prints(&format!("{git}\n"));
    let drained = env.run(&["pool", "drain", "--json"]).json();
    assert_eq!((drained.as_array().unwrap().len(), &drained[0]["deleted"]), (1, &true.into()));
    env.run(&["pool", "drain"]).prints("");
    env.run(&["pool", "ls", "--json"]).prints("[]\n");
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn sixteen_takers_of_three_vms_wait_for_nobody() {
    let mut env = Environment::mock();
    env.set("MAYFLY_MAX_ACTIVE_VMS", "20");
    let waiting = fill(&env, &["-n", "3"]);
    let args = ["run", "--json", "--", "true"];
    let takers: Vec<Live> = (0..16).map(|_| env.live(&args)).collect();
    let ran: Vec<Value> = takers.into_iter().map(|taker| taker.end().json()).collect();
    let ids: BTreeSet<&str> = ran.iter().map(|one| one["vm_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 16);
    let taken: BTreeSet<&str> = ran
        .iter()
        .filter(|one| one["timings_ms"]["pool"].is_number())
        .map(|one| one["vm_id"].as_str().unwrap())
        .collect();
    assert_eq!(taken, waiting.iter().map(String::as_str).collect());
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn one_that_has_died_or_does_not_answer_is_replaced_and_nobody_notices() {
    let env = Environment::mock();
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let [id] = &fill(&env, &[])[..] else { panic!("not one VM") };
        let vmm = env.vmm(id);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(vmm), signal).unwrap();
        if signal == Signal::SIGKILL {
            eventually("the end of the VM", || !lives(vmm));
            assert_eq!(pool(&env), [""; 0]);
        }
        env.run(&["run", "--", "echo", "here"]).is(0, "here\n", "");
        assert_eq!(env.leftovers(), [""; 0], "{signal}");
    }
}

#[test]
fn what_expires_or_died_is_never_taken_and_reaped() {
    let mut env = Environment::mock();
    env.profiles("[limits]\npool_ttl_seconds = 60\n");
    let [id] = &fill(&env, &[])[..] else { panic!("not one VM") };
    env.run(&["pool", "ls"]).prints("[..]5[..]s\n");
    env.expire(id);
    assert_eq!(pool(&env), [""; 0]);
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    let [id] = &fill(&env, &[])[..] else { panic!("not one VM") };
    let vmm = env.vmm(id);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(vmm), Signal::SIGKILL).unwrap();
    eventually("the end of the VM", || !lives(vmm));
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn a_vm_of_the_pool_ends_by_itself() {
    let mut env = Environment::mock();
    env.profiles("[limits]\npool_ttl_seconds = 1\n");
    let [id] = &fill(&env, &[])[..] else { panic!("not one VM") };
    if let Some(vmm) = env.vmm_if_any(id) {
        eventually("the end of the VM", || !lives(vmm));
    }
    assert!(!ran(&env, &[]).1);
    // The run has deleted it.
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn a_rebuilt_registry_offers_no_vm_of_the_pool() {
    let env = Environment::mock();
    fill(&env, &[]);
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "[..]", "[..]");
    assert_eq!(pool(&env), [""; 0]);
    assert_eq!(env.leftovers(), [""; 0], "its filler is gone, so it is a leftover");
}

/// An environment in which two VMs of each kind are kept waiting.
fn refilling() -> Environment {
    let mut env = Environment::mock();
    env.set("MAYFLY_POOL", "2");
    env
}

#[test]
fn a_run_fills_the_pool_again_and_its_output_ends_at_once() {
    let env = refilling();
    let mut command = env.command(&["run", "--", "echo", "here"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let began = Instant::now();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut String::new()).unwrap();
    assert_eq!((said.as_str(), child.wait().unwrap().code()), ("here\n", Some(0)));
    assert!(began.elapsed() < Duration::from_secs(5));
    eventually("two VMs that wait", || pool(&env).len() == 2);
    let (id, from_pool) = ran(&env, &[]);
    assert!(from_pool);
    eventually("two VMs that wait, and no refill", || {
        let locks = fs::read_dir(env.state().join("locks")).unwrap().flatten();
        let busy = locks.filter(|file| file.path().extension() == Some("fill".as_ref())).count();
        pool(&env).len() == 2 && busy == 0
    });
    assert!(!pool(&env).contains(&id));
    // 'create --start' too, and another kind has its own.
    env.run(&["create", "-q", "--start", "--mem", "512M", "--name", "box"]).is(0, "[..]", "");
    eventually("four VMs that wait", || pool(&env).len() == 4);
    env.rm("box");
    eventually("no refill", || {
        env.run(&["pool", "drain"]).is(0, "[..]", "[..]");
        env.leftovers().is_empty()
    });
    assert!(!env.state().join("pool.log").exists());
}

#[test]
fn a_refill_holds_nothing_of_the_command_before_it() {
    let mut env = refilling();
    // Whoever reads the profiles waits for a writer, first the command and then its refill.
    let pipe = env.root().join("profiles");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    env.set("MAYFLY_PROFILES", &pipe);
    let mut live = env.live(&["run", "--", "echo", "here"]);
    fs::write(&pipe, "").unwrap();
    live.says("here\n");
    live.end().is(0, "here\n", "");
    let refills = || {
        let ours = format!("MAYFLY_STATE_DIR={}", env.state().display());
        let all = processes::with_environment(ours.as_bytes());
        all.into_iter().filter(|(_, line)| line.contains("--refill")).collect::<Vec<_>>()
    };
    eventually("a refill that waits", || refills().len() == 1);
    let proc = PathBuf::from(format!("/proc/{}", refills()[0].0));
    for file in fs::read_dir(proc.join("fd")).unwrap().flatten() {
        let target = fs::read_link(file.path()).unwrap();
        assert!(target == Path::new("/dev/null") || target == pipe, "{target:?} is open");
    }
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[3], refills()[0].0.to_string(), "its session");
    fs::write(&pipe, "").unwrap();
    eventually("the end of the refill", || refills().is_empty());
    env.unset("MAYFLY_PROFILES");
    env.run(&["pool", "drain"]).is(0, "[..]", "");
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn errors_of_a_refill_are_in_its_log() {
    let env = refilling();
    // The directory of sockets cannot be made for a second VM.
    let log = env.state().join("pool.log");
    let mut gone = env.command(&["run", "--", "true"]);
    gone.env("MAYFLY_PROFILES", env.root().join("profiles.toml"));
    fs::write(env.root().join("profiles.toml"), "[limits]\npool_ttl_seconds = 0\n").unwrap();
    assert!(gone.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    eventually("an error in the log", || log.exists());
    let shown = env.run(&["pool", "ls"]);
    assert!(shown.stderr().contains("pool.log"), "{shown}");
    // The next refill that works forgets it.
    ran(&env, &[]);
    eventually("no error in the log", || !log.exists());
    eventually("no refill", || {
        env.run(&["pool", "drain"]).is(0, "[..]", "[..]");
        env.leftovers().is_empty()
    });
}

#[test]
fn a_killed_fill_leaves_nothing_after_reap() {
    let env = Environment::mock();
    let mut live = env.live(&["pool", "fill", "-n", "500"]);
    live.says("\n");
    let pid = live.pid();
    live.kill();
    eventually("the end of the fill", || !lives(pid));
    env.run(&["reap"]).is(0, "[..]", "");
    env.run(&["pool", "drain"]).is(0, "[..]", "");
    assert_eq!(env.leftovers(), [""; 0]);
}

#[test]
fn an_interrupted_fill_leaves_the_vms_that_wait() {
    let env = Environment::mock();
    let mut live = env.live(&["pool", "fill", "-n", "500"]);
    live.says("\n");
    live.signal(Signal::SIGINT);
    let answer = live.end();
    assert_eq!(answer.code(), 130, "{answer}");
    assert_eq!(pool(&env).len(), answer.stdout().lines().count());
    env.run(&["pool", "drain"]).is(0, "[..]", "");
    assert_eq!(env.leftovers(), [""; 0]);
}
