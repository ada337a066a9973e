//! `doctor` and refusals about Firecracker, without running it.
//!
//! Its programs are scripts that print a version. The conformance tests run VMs with the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde_json::Value;

use crate::support::environment::Environment;
use crate::support::skip::skipped;

/// An environment without Firecracker, even if this machine has it.
fn without_firecracker() -> Environment {
    let mut env = Environment::mock();
    env.unset("MAYFLY_BACKEND");
    let qemu = script(&env.root().join("qemu"), "qemu", "echo QEMU emulator version 7.2.22");
    env.set("MAYFLY_QEMU_BIN", qemu);
    env.set("PATH", "/nowhere");
    env
}

/// An environment with a Firecracker and a jailer of these versions.
fn with_firecracker(firecracker: &str, jailer: &str) -> Environment {
    let mut env = without_firecracker();
    let programs = env.root().join("programs");
    release(&programs, firecracker, jailer);
    env.set("PATH", &programs);
    env
}

/// Writes both programs of a release to a directory.
fn release(directory: &Path, firecracker: &str, jailer: &str) {
    script(directory, "firecracker", &format!("echo Firecracker v{firecracker}"));
    script(directory, "jailer", &format!("echo Jailer v{jailer}"));
}

/// Writes a program that runs shell commands.
fn script(directory: &Path, name: &str, commands: &str) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{commands}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The checks of `doctor` on a host that can run VMs.
#[track_caller]
fn checks(env: &Environment) -> Vec<Value> {
    let diagnosis = env.run(&["doctor", "--json"]).json();
    diagnosis["checks"].as_array().unwrap().clone()
}

/// The verdict, detail and remedy of a check.
#[track_caller]
fn check(env: &Environment, name: &str) -> (String, String, String) {
    let checks = checks(env);
    let found = checks.iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no check of {name} in {checks:?}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("detail"), text("remedy"))
}

/// Whether this machine can run VMs with Firecracker.
fn host_has_kvm() -> bool {
    check(&without_firecracker(), "kvm").0 == "ok"
}

#[test]
fn without_firecracker_doctor_is_content() {
    let env = without_firecracker();
    let (verdict, detail, remedy) = check(&env, "firecracker");
    assert_eq!((verdict.as_str(), detail.as_str()), ("warning", "firecracker is not installed"));
    if host_has_kvm() {
        let places = format!("PATH or into {}", env.root().join("artifacts/bin").display());
        for hint in [&places, "MAYFLY_FIRECRACKER_BIN", "MAYFLY_JAILER_BIN"] {
            assert!(remedy.contains(hint), "{remedy}");
        }
    } else {
        assert!(remedy.contains("'--backend qemu'"), "{remedy}");
    }
    let names: Vec<Value> = checks(&env).iter().map(|check| check["name"].clone()).collect();
    assert!(!names.contains(&"jailer".into()) && !names.contains(&"cgroups".into()), "{names:?}");
}

#[test]
fn firecracker_is_found_in_all_usual_places() {
    let on_path = with_firecracker("1.14.1", "1.14.1");
    let mut named = without_firecracker();
    let mut beside_images = without_firecracker();
    let places = [
        on_path.root().join("programs"),
        named.root().join("n"),
        named.root().join("artifacts/bin"),
    ];
    release(&places[1], "1.14.1", "1.14.1");
    named.set("MAYFLY_FIRECRACKER_BIN", places[1].join("firecracker"));
    named.set("MAYFLY_JAILER_BIN", places[1].join("jailer"));
    release(&places[2], "1.14.1", "1.14.1");
    beside_images.set("MAYFLY_ARTIFACTS_DIR", named.root().join("artifacts"));
    for (env, place) in [on_path, named, beside_images].iter().zip(places) {
        for (name, shown) in [("firecracker", "Firecracker"), ("jailer", "jailer")] {
            let (verdict, detail, _) = check(env, name);
            let expected = format!("{shown} 1.14.1 ({})", place.join(name).display());
            if name == "firecracker" {
                assert!(detail.starts_with(&expected), "{detail}");
            } else if geteuid().is_root() {
                assert_eq!((verdict.as_str(), detail), ("ok", expected));
            } else {
                assert_eq!(detail, "not used: only root's VMs are jailed");
            }
        }
    }
}

#[test]
fn doctor_says_why_auto_does_not_use_firecracker() {
    let mut env = with_firecracker("1.14.1", "1.14.1");
    if !host_has_kvm() {
        let (_, problem, _) = check(&env, "kvm");
        env.run(&["doctor"]).is(
            0,
            &format!(
                "[..]\n--  firecracker [..]Firecracker 1.14.1 ([..]); auto does not select it, \
                 because firecracker cannot be used: {problem}\n[..]=> use '--backend qemu'[..]\n\
                 VMs run here with qemu; isolation is emulated\n"
            ),
            "",
        );
    }
    env.set("MAYFLY_ACCEL", "tcg");
    let (verdict, detail, remedy) = check(&env, "firecracker");
    assert_eq!(verdict, "warning");
    assert!(detail.ends_with("because firecracker has no accelerator \"tcg\""), "{detail}");
    assert!(remedy.contains("MAYFLY_ACCEL"), "{remedy}");
}

#[test]
fn an_unusable_firecracker_is_reported() {
    let env = with_firecracker("1.7.0", "1.7.0");
    let (verdict, detail, remedy) = check(&env, "firecracker");
    assert_eq!(verdict, "warning");
    assert!(detail.ends_with("1.7.0 is too old: mayfly needs 1.8.0 or newer"), "{detail}");
    assert!(remedy.contains("newer"), "{remedy}");

    let programs = env.root().join("programs");
    for (commands, why) in [
        ("echo something else", "names no version"),
        ("echo it is broken >&2; exit 1", "failed: it is broken"),
    ] {
        script(&programs, "firecracker", commands);
        let (verdict, detail, remedy) = check(&env, "firecracker");
        assert_eq!(verdict, "warning");
        assert!(detail.ends_with(why), "{detail}");
        assert!(remedy.contains("MAYFLY_FIRECRACKER_BIN"), "{remedy}");
    }
}

#[test]
fn known_faults_of_a_jailer_are_reported() {
    if !geteuid().is_root() {
        return skipped("only root can use a jailer");
    }
    let vulnerable = "has CVE-2026-1386";
    let update = "1.13.2, 1.14.1 or newer";
    let different = "firecracker is 1.14.1";
    for (firecracker, jailer, said, remedies) in [
        ("1.12.1", "1.12.1", &[vulnerable][..], &[update][..]),
        ("1.14.1", "1.13.2", &[different], &["from one release"]),
        ("1.14.1", "1.14.0", &[vulnerable, different], &[update, "from one release"]),
    ] {
        let env = with_firecracker(firecracker, jailer);
        let (verdict, detail, remedy) = check(&env, "jailer");
        assert_eq!(verdict, "warning", "{detail}");
        assert!(detail.starts_with(&format!("jailer {jailer} (")), "{detail}");
        assert!(said.iter().all(|what| detail.contains(what)), "{detail}");
        assert!(remedies.iter().all(|what| remedy.contains(what)), "{remedy}");
        // Neither is an error.
        assert_eq!(env.run(&["doctor"]).code(), 0);
        let (_, limits, _) = check(&env, "cgroups");
        assert!(limits.contains("memory, CPU and processes"), "{limits}");
    }

    let env = with_firecracker("1.14.1", "1.14.1");
    fs::remove_file(env.root().join("programs/jailer")).unwrap();
    let (verdict, detail, remedy) = check(&env, "jailer");
    assert_eq!((verdict.as_str(), detail.as_str()), ("warning", "jailer is not installed"));
    assert!(remedy.contains("MAYFLY_JAILER_BIN") && remedy.contains("--no-jailer"), "{remedy}");
}

#[test]
fn a_host_that_cannot_run_it_refuses_at_once() {
    if host_has_kvm() {
        return;
    }
    let env = with_firecracker("1.14.1", "1.14.1");
    let refusal = "mayfly: firecracker cannot be used: /dev/kvm [..]\n\
                   hint: use '--backend qemu', which works without hardware virtualization\n";
    env.run(&["create", "--backend", "firecracker"]).fails(6, refusal);
    env.run(&["run", "--backend", "firecracker", "--", "true"]).fails(125, refusal);
    let error = env.run(&["create", "--backend", "firecracker", "--json"]).json_error(6);
    assert_eq!(error["kind"], "host");
    assert!(error["hint"].as_str().unwrap().contains("'--backend qemu'"), "{error}");
    assert!(!env.root().join("artifacts").exists(), "an image was begun");
    assert!(env.ids().is_empty());
}

#[test]
fn auto_skips_firecracker_where_it_cannot_run() {
    if host_has_kvm() {
        return;
    }
    let mut env = Environment::qemu();
    let programs = env.root().join("programs");
    release(&programs, "1.14.1", "1.14.1");
    env.set("MAYFLY_FIRECRACKER_BIN", programs.join("firecracker"));
    env.set("MAYFLY_JAILER_BIN", programs.join("jailer"));
    env.set("MAYFLY_BACKEND", "auto");
    env.unset("MAYFLY_ACCEL");
    let id = env.create(&[]);
    let vm = env.status(&id);
    assert_eq!((&vm["backend"], &vm["accelerator"]), (&"qemu".into(), &"tcg".into()));
    env.rm(&id);
}
