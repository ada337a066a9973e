//! A SIGKILL or an error at every system call of every verb.

use super::chance::Chance;
use super::ground::{Ended, Ground};
use super::procfs;
use super::support::timers::{fdinfo, timer};
use super::trace::{self, Point};

/// A verb, and the state of its VM before.
struct Case {
    args: &'static [&'static str],
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Created,
    Started,
    /// The VMM is dead and still on record.
    Dead,
}

/// Whether everything was done but the output.
fn is_unsaid(ended: &Ended) -> bool {
    ended.stderr.contains("cannot write to standard output")
}

/// `@` is the VM.
const CASES: [Case; 11] = [
    Case { args: &["create"], before: Before::Nothing },
    Case { args: &["start", "@"], before: Before::Created },
    Case { args: &["exec", "--keep", "@", "--", "true"], before: Before::Started },
    Case { args: &["exec", "@", "--", "true"], before: Before::Started },
    Case { args: &["stop", "@"], before: Before::Started },
    Case { args: &["rm", "@"], before: Before::Started },
    Case { args: &["start", "@"], before: Before::Dead },
    Case { args: &["reap"], before: Before::Dead },
    Case { args: &["run", "--", "true"], before: Before::Nothing },
    Case { args: &["extend", "@", "1h"], before: Before::Started },
    Case { args: &["rename", "@", "other"], before: Before::Started },
];

/// The calls that change something that other processes can see. strace kills before the call, so every state between
/// two of them is reached; a file that `openat` creates exists at the next of them.
const CHANGING: [&str; 25] = [
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
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
    "clone",
    "clone3",
    "vfork",
    "fork",
    "pidfd_open",
    "pidfd_send_signal",
    "exit_group",
];

/// Errors, and calls that can return them.
const ERRORS: [(&str, &[&str]); 4] = [
    ("ENOSPC", &["mkdir", "mkdirat", "openat", "write", "fsync", "rename", "bind"]),
    ("EIO", &["read", "write", "fsync", "rename", "unlink", "unlinkat", "getdents64", "openat"]),
    ("EMFILE", &["openat", "pipe2", "socket", "pidfd_open", "fcntl", "clone", "clone3"]),
    ("EINTR", &["openat", "read", "write", "connect", "fsync", "poll", "ppoll", "ftruncate"]),
];

/// How many points of one call are tried at most.
const ENOUGH: usize = 40;

impl Case {
    fn prepare(&self, ground: &Ground) -> Option<String> {
        match self.before {
            Before::Nothing => None,
            Before::Created => Some(ground.created()),
            Before::Started => Some(ground.started()),
            Before::Dead => {
                let id = ground.started();
                procfs::end(ground.vmm(&id).unwrap());
                Some(id)
            }
        }
    }

    fn args<'a>(&self, vm: Option<&'a str>) -> Vec<&'a str> {
        self.args.iter().map(|&arg| if arg == "@" { vm.unwrap() } else { arg }).collect()
    }

    fn deletes(&self) -> bool {
        self.args[0] == "rm" || (self.args[0] == "exec" && self.args[1] != "--keep")
    }

    /// Notes what the verb acknowledged, and checks what must be true even before a `reap`.
    fn judge(&self, ground: &Ground, vm: Option<&str>, ended: &Ended, at: &str) {
        let done = ended.code == Some(0);
        match (self.args[0], vm) {
            ("create", _) => {
                if let Some(id) = ended.stdout.strip_suffix('\n') {
                    ground.ledger.created(id);
                }
            }
            ("stop", Some(id)) if done => {
                let left = procfs::marked(&ground.state);
                let left: Vec<_> = left.iter().filter(|one| one.vm_dir.ends_with(id)).collect();
                assert!(left.is_empty(), "{at}: stopped, but {left:?} lives");
            }
            ("start", Some(id)) if ended.code.is_some() => {
                let phase = ground.phase(id);
                let marked = procfs::marked(&ground.state);
                let lives = marked.iter().any(|one| one.vm_dir.ends_with(id));
                // A living VMM may be on record as `starting`: the next command kills it. Otherwise another start
                // would start a second VMM with the same disk.
                let right = if done {
                    lives && phase == "started"
                } else {
                    !lives || phase == "starting" || is_unsaid(ended)
                };
                assert!(right, "{at}: {phase}, lives: {lives}: {ended:#?}");
            }
            ("extend", Some(id)) => {
                let promised = ground.seconds_left(id);
                assert!(!done || promised > 3500.0, "{at}: {promised}");
                // The guest must not end before the time in the registry.
                let guest = timer(&fdinfo(ground.vmm(id).unwrap()));
                assert!(guest > promised - 1.0, "{at}: {guest} {promised}");
            }
            ("rename", Some(id)) => {
                let (recorded, rebuilt) = ground.names_of(id);
                assert!(!done || recorded == "other", "{at}: {recorded}");
                let killed = ended.code.is_none();
                assert!(killed || recorded == rebuilt, "{at}: {recorded} {rebuilt}: {ended:#?}");
            }
            (_, Some(id)) if self.deletes() && done => ground.ledger.deleted(id),
            (_, Some(id)) if self.deletes() => ground.ledger.doubt(id),
            _ => {}
        }
    }

    /// Injects a fault at one point of the verb, and then tries the verb again.
    fn try_at(&self, ground: &Ground, point: &Point, what: &str, is_swept_first: bool) {
        let vm = self.prepare(ground);
        let args = self.args(vm.as_deref());
        let at = format!("{what} at {} {} of {:?}", point.call, point.occurrence, self.args);
        let ended = trace::inject(ground, point, what, &args);
        self.judge(ground, vm.as_deref(), &ended, &at);
        // The verb must succeed again, before or after `reap`.
        if is_swept_first {
            ground.check(&at);
        }
        if let Some(ended) = ground.again(&args, vm.as_deref(), &at) {
            self.judge(ground, vm.as_deref(), &ended, &at);
        }
        ground.check(&at);
        clear(ground);
    }

    /// A random part of the points of this verb, as the size of the campaign says.
    fn points(&self, ground: &Ground, calls: &[&str], chance: &mut Chance) -> Vec<Point> {
        let vm = self.prepare(ground);
        let (ended, mut points) = trace::points(ground, calls, &self.args(vm.as_deref()));
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        self.judge(ground, vm.as_deref(), &ended, "nothing");
        ground.check("a traced verb");
        clear(ground);
        let total = |call: &str| points.iter().filter(|point| point.call == call).count();
        let totals: Vec<usize> = points.iter().map(|point| total(&point.call)).collect();
        let mut totals = totals.into_iter();
        points.retain(|_| {
            let total = totals.next().unwrap();
            chance.takes_part() && (total <= ENOUGH || chance.below(total) < ENOUGH)
        });
        points
    }
}

/// Deletes all VMs, which keeps the checks quick and names free.
fn clear(ground: &Ground) {
    for id in ground.ledger.promised() {
        ground.ok(&["rm", &id]);
        ground.ledger.deleted(&id);
    }
}

#[test]
fn killed_at_every_call_that_changes_something() {
    if !trace::is_possible() {
        return;
    }
    let mut chance = Chance::new("kills at calls");
    let ground = Ground::new();
    let mut tried = 0;
    for case in &CASES {
        for point in case.points(&ground, &CHANGING, &mut chance) {
            case.try_at(&ground, &point, "signal=SIGKILL", chance.below(2) == 0);
            tried += 1;
        }
    }
    assert!(tried > 0, "no point was tried");
    println!("{tried} points");
}

fn failing(error: &str) {
    if !trace::is_possible() {
        return;
    }
    let mut chance = Chance::new(error);
    let (_, calls) = ERRORS.iter().find(|(name, _)| *name == error).unwrap();
    let ground = Ground::new();
    let mut tried = 0;
    for case in &CASES {
        for point in case.points(&ground, calls, &mut chance) {
            case.try_at(&ground, &point, &format!("error={error}"), chance.below(2) == 0);
            tried += 1;
        }
    }
    assert!(tried > 0, "no point was tried");
    println!("{tried} points");
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
fn interrupted_at_every_call() {
    failing("EINTR");
}
