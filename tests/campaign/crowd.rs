//! Sixteen users of one state directory who use all verbs at the same time.

use serde_json::Value;

use super::chance::{Chance, share_of};
use super::ground::{Ended, Ground};

const USERS: usize = 16;
const OPERATIONS: usize = 200;
const PLACES: usize = 6;
/// The exit codes of a command in a VM: success, a stopped VM, a lost VM.
const ENDINGS: [i32; 4] = [0, 128 + 15, 128 + 9, 125];
const NAMES: [&str; 5] = ["ant", "bee", "cricket", "dragonfly", "earwig"];

/// The VM in a JSON answer.
fn vm_id(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{answer:?}"));
    answer["vm_id"].as_str().unwrap().to_owned()
}

/// A random name or id that may exist.
fn some_vm(ground: &Ground, chance: &mut Chance) -> String {
    let ids = ground.ledger.candidates();
    if ids.is_empty() || chance.below(2) == 0 {
        (*chance.pick(&NAMES)).to_owned()
    } else {
        chance.pick(&ids).clone()
    }
}

fn expect(ended: &Ended, codes: &[i32]) {
    assert!(
        ended.code.is_some_and(|code| codes.contains(&code)),
        "not one of {codes:?}: {ended:#?}"
    );
}

fn operate(ground: &Ground, chance: &mut Chance) {
    let vm = some_vm(ground, chance);
    match chance.below(10) {
        0 | 1 => {
            let mut args = vec!["create", "--json"];
            if chance.below(2) == 0 {
                args.extend(["--name", *chance.pick(&NAMES)]);
            }
            let ended = ground.run(&args);
            expect(&ended, &[0, 4, 5]);
            if ended.code == Some(0) {
                ground.ledger.created(&vm_id(&ended.stdout));
            }
        }
        2 | 3 => expect(&ground.run(&["start", &vm]), &[0, 3, 4, 5]),
        4 => expect(&ground.run(&["stop", &vm]), &[0, 3, 5]),
        5 => {
            let ended = ground.run(&["rm", "--json", &vm]);
            expect(&ended, &[0, 3]);
            if ended.code == Some(0) {
                ground.ledger.deleted(&vm_id(&ended.stdout));
            }
        }
        6 => {
            let ended = ground.run(&["exec", "--keep", &vm, "--", "echo", "whole"]);
            expect(&ended, &ENDINGS);
            if ended.code == Some(0) {
                assert_eq!(ended.stdout, "whole\n");
            }
        }
        7 => {
            let ended = ground.run(&["exec", "--json", &vm, "--", "echo", "whole"]);
            expect(&ended, &ENDINGS);
            if ended.code == Some(0) {
                assert!(ended.stdout.contains(r#""stdout":"whole\n""#), "{ended:#?}");
            }
            if ended.code != Some(125) {
                ground.ledger.deleted(&vm_id(&ended.stdout));
            } else if let Ok(id) = vm.parse::<mayfly::model::VmId>() {
                ground.ledger.doubt(id.as_str());
            }
        }
        8 => {
            expect(&ground.run(&["status", "--json"]), &[0]);
            expect(&ground.run(&["reap"]), &[0]);
        }
        _ => {
            let ended = ground.run(&["run", "--", "echo", "whole"]);
            expect(&ended, &[0, 125]);
            match ended.code {
                Some(0) => assert_eq!(ended.stdout, "whole\n"),
                _ => assert!(ended.stderr.contains("max active VMs"), "{ended:#?}"),
            }
        }
    }
}

#[test]
fn sixteen_users_do_not_disturb_each_other() {
    let mut chance = Chance::new("crowd");
    let mut ground = Ground::new();
    ground.set("MAYFLY_MAX_ACTIVE_VMS", &PLACES.to_string());
    std::thread::scope(|scope| {
        for _ in 0..USERS {
            let (mut chance, ground) = (chance.split(), &ground);
            scope.spawn(move || {
                (0..share_of(OPERATIONS)).for_each(|_| operate(ground, &mut chance));
            });
        }
    });
    assert!(ground.registry().vms.len() <= PLACES);
    ground.check("the crowd");
}
