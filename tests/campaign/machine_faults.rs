//! A SIGKILL at system calls of the verbs that make disks and templates, with real VMs. Afterwards the same verb succeeds
//! and the guest's disk is whole.

use super::chance::Chance;
use super::faults::CHANGING;
use super::ground::Ground;
use super::trace::{self, Point};

/// How many points of one call are tried at most, and the part of them that is: a start takes seconds where VMs are
/// emulated, and the calls are those that mock VMs have already been tried with.
const ENOUGH: usize = 4;
const PART: usize = 4;

/// `@` is a VM that was never started.
const CASES: [(&[&str], bool); 5] = [
    (&["start", "@"], true),
    (&["start", "--cold", "@"], true),
    // The template is missing.
    (&["start", "@"], false),
    (&["template", "build"], false),
    (&["template", "rm", "--force", "--all"], true),
];

/// Runs `with` for a new VM, if the verb needs one, with or without a template.
fn prepared<T>(
    ground: &Ground,
    (args, has_template): (&[&str], bool),
    with: impl FnOnce(Option<&str>, &[&str]) -> T,
) -> T {
    let verb = if has_template { &["template", "build"][..] } else { &["template", "rm", "--all"] };
    ground.ok(verb);
    let vm = args.contains(&"@").then(|| ground.created());
    let args: Vec<&str> =
        args.iter().map(|&arg| if arg == "@" { vm.as_deref().unwrap() } else { arg }).collect();
    let result = with(vm.as_deref(), &args);
    if let Some(id) = vm {
        ground.ok(&["rm", &id]);
        ground.ledger.deleted(&id);
    }
    result
}

fn points(ground: &Ground, case: (&[&str], bool), chance: &mut Chance) -> Vec<Point> {
    let (ended, points) = prepared(ground, case, |_, args| trace::points(ground, &CHANGING, args));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let mut points = chance.part_of(points, ENOUGH);
    points.retain(|_| chance.below(PART) == 0);
    points
}

#[test]
fn killed_starts_of_qemu_vms_leave_whole_disks() {
    if !trace::is_possible() {
        return;
    }
    let mut chance = Chance::new("kills at calls, qemu");
    let ground = Ground::of_machines("qemu");
    let mut tried = 0;
    for case in CASES {
        for point in points(&ground, case, &mut chance) {
            let at = format!("a SIGKILL at {} {} of {:?}", point.call, point.occurrence, case.0);
            prepared(&ground, case, |vm, args| {
                let _ = trace::inject(&ground, &point, "signal=SIGKILL", args);
                if chance.below(2) == 0 {
                    ground.check(&at);
                }
                ground.again(args, vm, &at);
                ground.check(&at);
                vm.iter().for_each(|id| ground.check_disk(id, &at));
            });
            tried += 1;
        }
    }
    println!("{tried} times SIGKILL at a system call of starts and templates, qemu: 0 broken");
}
