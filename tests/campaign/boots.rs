//! A rebooted host: the same files, another boot id, and no processes of VMs.

use std::fs;

use super::ground::{Ended, Ground};
use super::procfs;
use super::support::skip::skipped;

/// Runs mayfly as if the host had been rebooted; `None` if this machine does not allow it.
fn rebooted(ground: &Ground, args: &[&str]) -> Option<Ended> {
    let boot_id = ground.path("boot_id");
    fs::write(&boot_id, "11111111-2222-3333-4444-555555555555\n").unwrap();
    let script = format!(
        "mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"",
        boot_id.display()
    );
    let ended = ground.end(&mut ground.behind(&["unshare", "--mount", "sh", "-c", &script], args));
    for trouble in ["unshare failed", "mount: "] {
        if ended.stderr.contains(trouble) {
            skipped(&format!("no mount namespace can be had: {}", ended.stderr.trim()));
            return None;
        }
    }
    Some(ended)
}

#[test]
fn after_a_reboot_vms_are_stopped_and_can_be_started_again() {
    let ground = Ground::new();
    let vms: Vec<String> = (0..4).map(|_| ground.started()).collect();
    for id in &vms {
        procfs::end(ground.vmm(id).unwrap());
    }
    // A reboot usually empties the runtime directory too.
    fs::remove_dir_all(ground.path("run")).unwrap();

    let Some(seen) = rebooted(&ground, &["status", "--json"]) else { return };
    assert_eq!(seen.code, Some(0), "{seen:#?}");
    assert_eq!(seen.stdout.matches("host rebooted").count(), 4, "{seen:#?}");

    let verbs: [&[&str]; 4] =
        [&["start", &vms[0]], &["stop", &vms[1]], &["rm", &vms[2]], &["reap"]];
    for args in verbs {
        let ended = rebooted(&ground, args).unwrap();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    ground.ledger.deleted(&vms[2]);
    let echo = rebooted(&ground, &["exec", "--keep", &vms[0], "--", "echo", "again"]).unwrap();
    assert_eq!(echo.stdout, "again\n", "{echo:#?}");
    // In the first boot, processes of the other boot are foreign.
    assert!(ground.ok(&["status", "--json", &vms[0]]).contains("host rebooted"));
    ground.check("two reboots");
}

#[test]
fn a_run_that_a_reboot_ended_is_reaped() {
    let ground = Ground::new();
    let words = ["run", "-c", "touch began; exec sleep 1000"];
    let mut run = ground.begin(&mut ground.mayfly(&words));
    procfs::eventually("the command", || {
        let mut vms = fs::read_dir(ground.state.join("vms")).into_iter().flatten().flatten();
        vms.find(|vm| vm.path().join("work/began").exists())
    });
    run.child.kill().unwrap();
    let _ = run.end();
    for process in procfs::marked(&ground.state) {
        procfs::end(process.pid);
    }
    let Some(reaped) = rebooted(&ground, &["reap"]) else { return };
    assert!(reaped.stdout.starts_with("deleted VM "), "{reaped:#?}");
    assert!(ground.registry().vms.is_empty());
    ground.check("a run that a reboot ended");
}
