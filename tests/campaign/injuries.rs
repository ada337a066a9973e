//! Every file that mayfly reads, damaged in every way, while a VM runs: each command ends soon, none harms the VM, and
//! once the file is right again the VM answers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::chance::Chance;
use super::ground::Ground;
use super::{procfs, tiny};

/// The longest that a command may take, whatever it reads.
const LIMIT: Duration = Duration::from_secs(15);

const INJURIES: [&str; 12] = [
    "a flipped bit",
    "another digit",
    "another letter",
    "half of it",
    "nothing",
    "garbage",
    "zeros",
    "a directory",
    "a FIFO",
    "a newer schema",
    "a link to nothing",
    "no file at all",
];

/// What `reap --rebuild` does not replace: the user has to look at it.
const NOT_REBUILT: [&str; 4] = ["a directory", "a FIFO", "a newer schema", "a link to nothing"];

/// Puts a damaged version in the place of `path`, which does not exist now. Returns false if there is none of this kind.
fn injure(path: &Path, good: &[u8], how: &str, chance: &mut Chance) -> bool {
    let mut bytes = good.to_vec();
    let mut replace_one = |is_meant: fn(u8) -> bool, by: &[u8], chance: &mut Chance| {
        let places: Vec<usize> = (0..bytes.len()).filter(|&at| is_meant(bytes[at])).collect();
        let Some(&place) = (!places.is_empty()).then(|| chance.pick(&places)) else { return false };
        let others: Vec<u8> = by.iter().copied().filter(|byte| *byte != bytes[place]).collect();
        bytes[place] = *chance.pick(&others);
        fs::write(path, &bytes).unwrap();
        true
    };
    match how {
        "a flipped bit" if !good.is_empty() => {
            let place = chance.below(bytes.len());
            bytes[place] ^= 1 << chance.below(8);
            fs::write(path, bytes).unwrap();
        }
        "another digit" => return replace_one(|byte| byte.is_ascii_digit(), b"0123456789", chance),
        "another letter" => {
            return replace_one(
                |byte| byte.is_ascii_lowercase(),
                b"abcdefghijklmnopqrstuvwxyz",
                chance,
            );
        }
        "half of it" if !good.is_empty() => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        "nothing" => fs::write(path, "").unwrap(),
        "garbage" => fs::write(path, b"\x1b[2J\nmayfly: \xff\xfe{{{ [[[ =").unwrap(),
        "zeros" => fs::write(path, vec![0; bytes.len().max(1)]).unwrap(),
        "a directory" => fs::create_dir(path).unwrap(),
        "a FIFO" => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        "a newer schema" => {
            let text = String::from_utf8_lossy(good);
            let Some((before, after)) = text.split_once("\"schema\"") else { return false };
            let after = after.trim_start_matches([':', ' ']).trim_start_matches(char::is_numeric);
            fs::write(path, format!("{before}\"schema\": 99{after}")).unwrap();
        }
        "a link to nothing" => symlink("nowhere", path).unwrap(),
        "no file at all" => {}
        _ => return false,
    }
    true
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

/// A VM that runs, and another one that does not.
struct Patients {
    ground: Ground,
    running: String,
    resting: String,
    vmm: i32,
}

impl Patients {
    fn new() -> Patients {
        let mut ground = Ground::new();
        tiny::prepare(&ground);
        for (variable, name, text) in [
            ("MAYFLY_CONFIG", "config.toml", "color = \"never\"\n"),
            ("MAYFLY_PROFILES", "profiles.toml", "[profiles.debian-base]\nenv = { KEY = \"1\" }\n"),
        ] {
            let path = ground.path(name);
            fs::write(&path, text).unwrap();
            ground.set(variable, path.to_str().unwrap());
        }
        ground.limit = LIMIT;
        let (running, resting) = (ground.started(), ground.created());
        let vmm = ground.vmm(&running).unwrap();
        ground.ok(&["exec", "--keep", &running, "--", "true"]);
        Patients { ground, running, resting, vmm }
    }

    /// The files that commands read.
    fn files(&self) -> Vec<PathBuf> {
        let Patients { ground, running, resting, .. } = self;
        let vm = |id: &str, name: &str| ground.state.join("vms").join(id).join(name);
        let run = ground.run_dirs().first().expect("a VM runs").join(running);
        let artifacts = ground.artifacts();
        let mut files = vec![
            ground.state.join("registry.json"),
            ground.state.join("registry.lock"),
            ground.state.join("reserve"),
            ground.state.join("marks.key"),
            ground.state.join("locks").join(format!("{running}.lock")),
            ground.state.join("locks").join(format!("{resting}.lock")),
            vm(running, "manifest.json"),
            vm(resting, "manifest.json"),
            vm(running, "command.json"),
            vm(resting, "command.json"),
            vm(running, "vmm.log"),
            vm(running, "console.log"),
            ground.path("config.toml"),
            ground.path("profiles.toml"),
        ];
        let image = artifacts.join(tiny::KERNEL);
        for directory in [run, image] {
            let entries = fs::read_dir(&directory).unwrap().flatten();
            files.extend(entries.filter(|entry| entry.path().is_file()).map(|entry| entry.path()));
        }
        let locks = fs::read_dir(&artifacts).unwrap().flatten().map(|entry| entry.path());
        files.extend(locks.filter(|path| path.is_file()));
        files.retain(|path| path.symlink_metadata().is_ok());
        files
    }

    /// What every command must respect, whatever it reads.
    fn use_all_verbs(&self, at: &str) -> usize {
        let Patients { ground, running, resting, vmm } = self;
        let inside = format!("{running}:copied");
        let kernel = tiny::KERNEL;
        let verbs: [&[&str]; 20] = [
            &["status"],
            &["status", "--json", running],
            &["profiles"],
            &["config", "show"],
            &["doctor"],
            &["logs", running],
            &["logs", "--vmm", running],
            &["exec", "--keep", running, "--", "true"],
            &["cp", "one.tar", &inside],
            &["extend", running, "1h"],
            &["create", "--ttl", "60s"],
            &["run", "--", "true"],
            &["run", "-p", kernel, "--", "true"],
            &["start", resting],
            &["stop", resting],
            &["image", "ls"],
            &["image", "prune", "--dry-run"],
            &["reap", "--dry-run"],
            &["reap"],
            &["reap", "--rebuild"],
        ];
        println!("{at}");
        for args in verbs {
            let ended = ground.run(args);
            assert!(ended.code.is_some(), "{at}: {ended:#?}");
            assert!(procfs::is_alive(*vmm), "{at}: {args:?} ended a VM that runs: {ended:#?}");
            let files = ground.state.join("vms").join(running);
            assert!(files.join("work").exists(), "{at}: {args:?} deleted a VM's files: {ended:#?}");
            if args[0] == "create" && ended.code == Some(0) {
                let _ = ground.run(&["rm", ended.stdout.trim()]);
            }
        }
        verbs.len()
    }

    /// The VM runs and answers, and everything is in order.
    fn assert_well(&self, at: &str) {
        let Patients { ground, running, resting, .. } = self;
        ground.check(at);
        // All injuries together take longer than a VM lives.
        let _ = ground.run(&["extend", resting, "1h"]);
        let ended = ground.run(&["exec", "--keep", running, "--", "echo", "alive"]);
        assert_eq!((ended.code, &*ended.stdout), (Some(0), "alive\n"), "{at}: {ended:#?}");
    }
}

#[test]
fn no_damaged_file_harms_a_vm_that_runs() {
    let mut chance = Chance::new("damaged files");
    let mut patients = Patients::new();
    let kept = patients.ground.path("kept");
    let (mut injured, mut commands) = (0, 0);
    for number in 0..patients.files().len() {
        for how in INJURIES {
            // A registry that was rebuilt may have other files.
            let Some(file) = patients.files().get(number).cloned() else { continue };
            let good = fs::read(&file).unwrap();
            let is_registry = file.ends_with("registry.json");
            // A pipe that a variable names is waited for: a shell's `<(…)` is one.
            let is_named = file.parent() == patients.ground.path("kept").parent();
            if is_named && how == "a FIFO" {
                continue;
            }
            if !is_registry && !chance.takes_part() {
                continue;
            }
            fs::rename(&file, &kept).unwrap();
            if !injure(&file, &good, how, &mut chance) {
                fs::rename(&kept, &file).unwrap();
                continue;
            }
            let at = format!("{how} instead of {}", file.display());
            commands += patients.use_all_verbs(&at);
            injured += 1;
            // A registry that was rebuilt is right, and the old one must not come back in its place.
            if !is_registry || NOT_REBUILT.contains(&how) {
                remove(&file);
                if let Some(parent) = file.parent() {
                    // A VM that was stopped has no sockets and claims.
                    if parent.exists() {
                        fs::rename(&kept, &file).unwrap();
                    }
                }
            }
            if is_registry {
                // The last generation may have been in the damaged part.
                patients.ground.generation = AtomicU64::new(0);
            }
            patients.assert_well(&at);
            if patients.ground.phase(&patients.resting) == "absent" {
                patients.resting = patients.ground.created();
            }
        }
    }
    println!(
        "{injured} damaged files, read by {commands} commands beside a VM that runs: 0 broken"
    );
}

/// With neither registry nor manifest, a VM that runs must not be taken for a leftover.
#[test]
fn a_damaged_manifest_and_a_lost_registry() {
    let mut chance = Chance::new("damaged manifests");
    let mut tried = 0;
    for how in INJURIES {
        if how == "no file at all" || how == "a newer schema" {
            continue;
        }
        let patients = Patients::new();
        let Patients { ground, running, vmm, .. } = &patients;
        let registry = ground.state.join("registry.json");
        let manifest = ground.state.join("vms").join(running).join("manifest.json");
        let (records, good) = (fs::read(&registry).unwrap(), fs::read(&manifest).unwrap());
        fs::write(&registry, "lost").unwrap();
        fs::remove_file(&manifest).unwrap();
        assert!(injure(&manifest, &good, how, &mut chance));
        let at = format!("{how} instead of a manifest, and no registry");
        for args in [&["reap"][..], &["reap", "--rebuild"], &["reap"]] {
            let ended = ground.run(args);
            assert!(ended.code.is_some(), "{at}: {ended:#?}");
            assert!(procfs::is_alive(*vmm), "{at}: {args:?} ended a VM that runs: {ended:#?}");
        }
        remove(&manifest);
        fs::write(&manifest, good).unwrap();
        fs::write(&registry, records).unwrap();
        patients.assert_well(&at);
        tried += 1;
    }
    println!("{tried} damaged manifests without a registry: 0 broken");
}
