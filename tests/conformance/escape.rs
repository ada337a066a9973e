//! What a VMM that its guest has taken over can do to later commands.
//!
//! The VMM owns its directory, so the test changes files there in its place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};

use crate::bench::Bench;
use crate::support::skip::skipped;

/// The directory of a VMM.
fn home(bench: &Bench, id: &str) -> PathBuf {
    let vm = bench.env.state().join("vms").join(id);
    if bench.is_jailed { vm.join("jail/firecracker").join(id).join("root") } else { vm.join("vmm") }
}

fn replace(path: &Path, with: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    with(path);
}

pub fn a_vmm_that_was_taken_over_cannot_mislead_commands(bench: &Bench) {
    if bench.backend != "firecracker" {
        eprintln!("skipped on {}: its VMM owns no directory", bench.backend);
        return;
    }
    let env = &bench.env;
    let (elsewhere, strangers) = (env.root().join("elsewhere"), env.root().join("stranger.sock"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("canary"), "alive").unwrap();
    let stranger = UnixListener::bind(&strangers).unwrap();
    stranger.set_nonblocking(true).unwrap();

    // A link in the place of its directory is not followed.
    let id = env.create(&["--keep", "--mem", "256M"]);
    let vm = env.state().join("vms").join(&id);
    symlink(&elsewhere, vm.join("jail")).unwrap();
    symlink(&elsewhere, vm.join("vmm")).unwrap();
    let exec = |word: &str| env.run(&["exec", &id, "--", "echo", word]);
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    exec("first").prints("first\n");

    // A link to another process's socket, a file, and a socket of another user in the place of its socket.
    let home = home(bench, &id);
    let socket = home.join("v.sock");
    replace(&socket, |path| symlink(&strangers, path).unwrap());
    let refusal = "mayfly: [..]v.sock is not the socket of the VM's VMM\nhint: [..]rm[..]\n";
    exec("astray").fails(125, refusal);
    replace(&socket, |path| fs::write(path, "no socket").unwrap());
    exec("astray").fails(125, refusal);
    if bench.is_jailed {
        replace(&socket, |path| drop(UnixListener::bind(path).unwrap()));
        exec("astray").fails(125, refusal);
    }
    assert!(stranger.accept().is_err(), "somebody came to the stranger's socket");

    // Links, directories without permissions and a deep tree can be deleted.
    symlink(&elsewhere, home.join("link")).unwrap();
    fs::create_dir_all(home.join("a/".repeat(100))).unwrap();
    fs::create_dir(home.join("shut")).unwrap();
    fs::write(home.join("shut/file"), "").unwrap();
    fs::set_permissions(home.join("shut"), PermissionsExt::from_mode(0o000)).unwrap();
    if bench.is_jailed {
        let nobody = (Some(Uid::from_raw(65_534)), Some(Gid::from_raw(65_534)));
        chown(&home.join("a"), nobody.0, nobody.1).unwrap();
    }
    // Without its socket, the VMM can still be stopped.
    env.run(&["stop", "--grace", "1s", &id]).prints(&format!("{id}\n"));
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    exec("again").prints("again\n");
    symlink(&elsewhere, home.join("link")).unwrap();
    env.rm(&id);
    assert_eq!(fs::read_to_string(elsewhere.join("canary")).unwrap(), "alive");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
}

/// Each VMM runs as its own user, so that it cannot open the disks of other VMs.
pub fn every_vmm_is_a_user_of_its_own(bench: &Bench) {
    if bench.skips("a host process is its caller") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root's VMMs have users of their own");
    }
    let range = "[limits]\nvmm_uid = { min = 1999999998, max = 1999999999 }\n";
    let file = bench.env.file("range.toml", range);
    let create = || {
        let mut command = bench.env.command(&["create", "--json", "--mem", "256M"]);
        command.env("MAYFLY_PROFILES", &file);
        assert_cmd::Command::from_std(command).output().unwrap()
    };
    let mut uids = Vec::new();
    for _ in 0..2 {
        let created = create();
        let vm: serde_json::Value = serde_json::from_slice(&created.stdout).unwrap();
        let id = vm["vm_id"].as_str().unwrap();
        let manifest = bench.env.state().join("vms").join(id).join("manifest.json");
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        uids.push(manifest["vmm_uid"].as_u64().unwrap());
    }
    uids.sort();
    assert_eq!(uids, [1_999_999_998, 1_999_999_999]);
    let third = create();
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert_eq!(third.status.code(), Some(5), "{said}");
    assert!(said.contains("all 2 host users for VMMs are taken"), "{said}");
    let freed = bench.env.ids().remove(0);
    bench.env.rm(&freed);
    assert!(create().status.success());
    bench.env.clear();
}
