//! Two commands on one VM, where both may rightly expect to succeed.

use super::chance::{Chance, share_of};
use super::ground::Ground;

/// `rm` and the deletion that follows an `exec` want the same: the VM gone.
#[test]
fn a_command_that_succeeded_is_a_success_whoever_deletes_its_vm() {
    let mut chance = Chance::new("rm and exec");
    let ground = Ground::new();
    for _ in 0..share_of(60) {
        let id = ground.started();
        let words = ["exec", &id, "--", "sh", "-c", "echo whole"];
        let exec = ground.begin(&mut ground.mayfly(&words));
        std::thread::sleep(chance.pause(std::time::Duration::from_millis(80)));
        let removed = ground.run(&["rm", "-f", &id]);
        assert_eq!(removed.code, Some(0), "{removed:#?}");
        ground.ledger.deleted(&id);
        let ended = exec.end();
        match ended.stdout.as_str() {
            // The whole answer had come through unless the VM went away under the command.
            "whole\n" if ended.code == Some(125) => {
                assert!(!ended.stderr.contains("does not exist"), "{ended:#?}");
            }
            "whole\n" => assert_eq!(ended.code, Some(0), "{ended:#?}"),
            _ => assert_eq!(ended.code, Some(125), "{ended:#?}"),
        }
    }
    ground.check("rm and exec");
}

/// What `reap` sweeps away must not be what a `create` is about to use.
#[test]
fn creating_while_others_sweep() {
    let ground = Ground::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..share_of(150) {
                    let reaped = ground.run(&["reap"]);
                    assert_eq!(reaped.code, Some(0), "{reaped:#?}");
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..share_of(100) {
                    let id = ground.started();
                    ground.ok(&["rm", &id]);
                    ground.ledger.deleted(&id);
                }
            });
        }
    });
    ground.check("sweeping while creating");
}

/// The runtime directory goes when its last VM goes, which must not trouble the next one.
#[test]
fn last_ones_out_and_first_ones_in() {
    let ground = Ground::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..share_of(60) {
                    assert_eq!(ground.ok(&["run", "--", "echo", "whole"]), "whole");
                }
            });
        }
    });
    ground.check("runs beside runs");
}
