//! A SIGKILL or an error at every system call of every verb.

use std::fs;

use super::cases::{self, CASES, Case, IMPORT};
use super::chance::Chance;
use super::ground::Ground;
use super::trace::{self, Point};
use super::{procfs, tiny};

/// The calls that change something that other processes can see. strace kills before the call, so every state between
/// two of them is reached; a file that `openat` creates exists at the next of them.
pub const CHANGING: [&str; 32] = [
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "unlink",
    "unlinkat",
    "rmdir",
    "chmod",
    "fchmod",
    "fallocate",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "flock",
    "bind",
    "listen",
    "connect",
    "sendto",
    "sendmsg",
    "clone",
    "clone3",
    "vfork",
    "fork",
    "pidfd_open",
    "pidfd_send_signal",
    "exit_group",
];

/// Errors, and calls that can return them.
const ERRORS: [(&str, &[&str]); 5] = [
    ("ENOSPC", &["mkdir", "mkdirat", "openat", "write", "fsync", "rename", "renameat2", "bind"]),
    (
        "EIO",
        &[
            "read",
            "write",
            "fsync",
            "rename",
            "renameat2",
            "unlink",
            "unlinkat",
            "getdents64",
            "openat",
        ],
    ),
    ("EMFILE", &["openat", "pipe2", "socket", "pidfd_open", "fcntl"]),
    ("EAGAIN", &["clone", "clone3", "vfork", "fork"]),
    ("EINTR", &["openat", "read", "write", "connect", "fsync", "poll", "ppoll", "ftruncate"]),
];

/// How many points of one call are tried at most: kills, errors, and both in a slow verb.
const ENOUGH_KILLS: usize = 200;
const ENOUGH_ERRORS: usize = 40;
const ENOUGH_OF_IMPORT: usize = 12;

impl Case {
    /// Injects a fault at one point of the verb, and then tries the verb again.
    fn try_at(&self, ground: &Ground, point: &Point, what: &str, is_swept_first: bool) {
        let vm = self.prepare(ground);
        let args = self.args(vm.as_deref());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let at = format!("{what} at {} {} of {:?}", point.call, point.occurrence, self.args);
        let ended = trace::inject(ground, point, what, &args);
        self.judge(ground, vm.as_deref(), &ended, &at);
        // The verb must succeed again, before or after `reap`.
        if is_swept_first {
            ground.check(&at);
        }
        // The agent ends what it did for a killed copy.
        if let Some(agent) = vm.as_deref().filter(|_| self.copies()).and_then(|id| ground.vmm(id)) {
            procfs::eventually("an idle VM", || (!procfs::has_children(agent)).then_some(()));
        }
        let copied_into = self.copied_into(ground, vm.as_deref());
        cases::age_leftovers(&copied_into);
        // The next copy would go into a directory that this one has made, and not look beside it.
        let _ = fs::remove_dir_all(ground.path("out/tree"));
        if let Some(ended) = ground.again(&args, vm.as_deref(), &at) {
            self.judge(ground, vm.as_deref(), &ended, &at);
            let left = cases::age_leftovers(&copied_into);
            assert_eq!(left, 0, "{at}: the next copy left what it had left");
        }
        ground.check(&at);
        ground.check_artifacts(&at);
        clear(ground);
    }

    /// A random part of the points of this verb, as the size of the campaign says.
    fn points(
        &self,
        ground: &Ground,
        calls: &[&str],
        enough: usize,
        chance: &mut Chance,
    ) -> Vec<Point> {
        let vm = self.prepare(ground);
        let args = self.args(vm.as_deref());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (ended, points) = trace::points(ground, calls, &args);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        self.judge(ground, vm.as_deref(), &ended, "nothing");
        ground.check("a traced verb");
        clear(ground);
        let enough = if self.args == IMPORT.args { ENOUGH_OF_IMPORT } else { enough };
        chance.part_of(points, enough)
    }
}

/// Deletes all VMs, which keeps the checks quick and names free.
fn clear(ground: &Ground) {
    for id in ground.ledger.promised() {
        ground.ok(&["rm", &id]);
        ground.ledger.deleted(&id);
    }
}

/// Injects a fault at the points of all cases.
fn campaign(what: &str, fault: &str, calls: &[&str], enough: usize) {
    if !trace::is_possible() {
        return;
    }
    let mut chance = Chance::new(what);
    let mut ground = Ground::new();
    cases::prepare(&mut ground);
    tiny::prepare(&ground);
    let mut tried = 0;
    for case in CASES.iter().chain([&IMPORT]) {
        for point in case.points(&ground, calls, enough, &mut chance) {
            case.try_at(&ground, &point, fault, chance.below(2) == 0);
            tried += 1;
        }
    }
    assert!(tried > 0, "no point was tried");
    println!("{tried} times {what}, in {} verbs: 0 broken", CASES.len() + 1);
}

#[test]
fn killed_at_every_call_that_changes_something() {
    campaign("SIGKILL at a system call", "signal=SIGKILL", &CHANGING, ENOUGH_KILLS);
}

fn failing(error: &str) {
    let (_, calls) = ERRORS.iter().find(|(name, _)| *name == error).unwrap();
    let what = format!("{error} from a system call");
    campaign(&what, &format!("error={error}"), calls, ENOUGH_ERRORS);
}

#[test]
fn a_full_disk_at_every_call() {
    failing("ENOSPC");
}

#[test]
fn a_broken_disk_at_every_call() {
    failing("EIO");
}

#[test]
fn no_more_descriptors_at_every_call() {
    failing("EMFILE");
}

#[test]
fn no_more_threads_at_every_call() {
    failing("EAGAIN");
}

#[test]
fn interrupted_at_every_call() {
    failing("EINTR");
}
