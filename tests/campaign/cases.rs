//! The verbs in which faults are injected, and what must be true of each afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::ground::{Ended, Ground};
use super::support::timers::{fdinfo, timer};
use super::{procfs, tiny};

/// A verb, and the state of its VM before.
pub struct Case {
    /// `@` is the VM.
    pub args: &'static [&'static str],
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Created,
    Started,
    /// Another VM is started, too.
    TwoStarted,
    /// The VMM is dead and still on record.
    Dead,
    /// There is an image to delete or to replace.
    Image,
}

const fn case(args: &'static [&'static str], before: Before) -> Case {
    Case { args, before }
}

pub const CASES: [Case; 24] = [
    case(&["create"], Before::Nothing),
    case(&["start", "@"], Before::Created),
    case(&["exec", "--keep", "@", "--", "true"], Before::Started),
    case(&["exec", "@", "--", "true"], Before::Started),
    case(&["exec", "--all", "--keep", "--", "touch", "touched"], Before::TwoStarted),
    case(
        &["exec", "--secret", "key=secret", "--env-file", "env", "--keep", "@", "--", "true"],
        Before::Started,
    ),
    case(&["cp", "in/file", "@:file"], Before::Started),
    case(&["cp", "in/tree", "@:tree"], Before::Started),
    case(&["cp", "-", "@:into"], Before::Started),
    case(&["cp", "@:file", "out/file"], Before::Started),
    case(&["cp", "@:source", "out/tree"], Before::Started),
    case(&["cp", "@:source", "-"], Before::Started),
    case(&["stop", "@"], Before::Started),
    case(&["rm", "@"], Before::Started),
    case(&["start", "@"], Before::Dead),
    case(&["reap"], Before::Dead),
    case(&["run", "--", "true"], Before::Nothing),
    case(
        &["run", "--copy-in", "in/tree", "--copy-out", ".:out/tree", "--", "true"],
        Before::Nothing,
    ),
    case(&["extend", "@", "1h"], Before::Started),
    case(&["rename", "@", "other"], Before::Started),
    case(&["wait", "--for", "started", "@"], Before::Started),
    case(&["logs", "@"], Before::Started),
    case(&["image", "rm", "--force", "ant"], Before::Image),
    case(&["image", "prune"], Before::Image),
];

/// Takes half a second, so fewer points are tried.
pub const IMPORT: Case = Case {
    args: &["image", "import", "-q", "--disk", "64M", "--kernel-of", "kernel", "two.tar", "ant"],
    before: Before::Image,
};

/// The content of the files that are copied: the old and the new one.
const OLD: &str = "old\n";

fn new() -> String {
    "new\n".repeat(30_000)
}

/// Makes the files that cases use.
pub fn prepare(ground: &mut Ground) {
    ground.keep_runtime_in_memory();
    for directory in ["in/tree/below", "out"] {
        fs::create_dir_all(ground.path(directory)).unwrap();
    }
    for (name, text) in [
        ("in/file", new()),
        ("in/tree/a", new()),
        ("in/tree/below/b", new()),
        ("env", "KEY=value\n".into()),
        ("secret", "hunter2\n".into()),
    ] {
        fs::write(ground.path(name), text).unwrap();
    }
    private(&ground.path("secret"));
    let mut tar = tar::Builder::new(File::create(ground.path("stdin")).unwrap());
    tar.append_dir_all(".", ground.path("in/tree")).unwrap();
    tar.finish().unwrap();
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether everything was done but the output.
fn is_unsaid(ended: &Ended) -> bool {
    ended.stderr.contains("cannot write to standard output")
}

impl Case {
    pub fn prepare(&self, ground: &Ground) -> Option<String> {
        let _ = fs::remove_dir_all(ground.path("out"));
        fs::create_dir(ground.path("out")).unwrap();
        fs::write(ground.path("out/file"), OLD).unwrap();
        match self.before {
            Before::Nothing => None,
            Before::Created => Some(ground.created()),
            Before::Started | Before::TwoStarted => {
                if self.before == Before::TwoStarted {
                    ground.started();
                }
                let id = ground.started();
                if self.copies() {
                    fill(&work(ground, &id));
                }
                Some(id)
            }
            Before::Dead => {
                let id = ground.started();
                procfs::end(ground.vmm(&id).unwrap());
                Some(id)
            }
            Before::Image => {
                if self.args[1] != "import" || !ground.artifacts().join("ant").exists() {
                    ground.ok(&tiny::import("one.tar", "ant"));
                }
                if self.args[1] == "prune" {
                    // As a killed build leaves it.
                    let left = ground.artifacts().join(".build-ant-1-0a1b2c3d/work");
                    fs::create_dir_all(left).unwrap();
                }
                None
            }
        }
    }

    pub fn args(&self, vm: Option<&str>) -> Vec<String> {
        self.args.iter().map(|arg| arg.replace('@', vm.unwrap_or("@"))).collect()
    }

    pub fn copies(&self) -> bool {
        self.args[0] == "cp"
    }

    fn deletes(&self) -> bool {
        self.args[0] == "rm" || (self.args[0] == "exec" && !self.args.contains(&"--keep"))
    }

    /// Notes what the verb acknowledged, and checks what must be true even before a `reap`.
    pub fn judge(&self, ground: &Ground, vm: Option<&str>, ended: &Ended, at: &str) {
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
            ("cp", Some(id)) => self.judge_copy(ground, id, ended, at),
            ("run", None) if self.args.len() > 3 => {
                let tree = ground.path("out/tree");
                assert_whole(&tree.join("a"), done, false, at);
                assert_whole(&tree.join("below/b"), done, false, at);
            }
            ("image", None) => {
                let image = ground.artifacts().join("ant");
                let content = image.exists().then(|| tiny::content(&image));
                let content = content.as_deref();
                let right = match self.args[1] {
                    "import" => content == Some("two") || (!done && content == Some("one")),
                    "rm" => content.is_none() || (!done && content == Some("one")),
                    _ => content == Some("one"),
                };
                assert!(right, "{at}: {content:?}: {ended:#?}");
            }
            (_, Some(id)) if self.deletes() && done => ground.ledger.deleted(id),
            (_, Some(id)) if self.deletes() => ground.ledger.doubt(id),
            _ => {}
        }
    }

    /// Each file is the old or the new one as a whole, and the new one if the copy succeeded.
    fn judge_copy(&self, ground: &Ground, id: &str, ended: &Ended, at: &str) {
        let done = ended.code == Some(0);
        let inside = work(ground, id);
        match (self.args[1], self.args[2]) {
            (_, "@:file") => assert_whole(&inside.join("file"), done, true, at),
            (_, "@:tree") => {
                assert_whole(&inside.join("tree/a"), done, false, at);
                assert_whole(&inside.join("tree/below/b"), done, false, at);
                // A tree appears as a whole.
                let parts =
                    ["tree", "tree/a", "tree/below/b"].map(|part| inside.join(part).exists());
                assert!(parts == [true; 3] || parts == [false; 3], "{at}: {parts:?}");
            }
            (_, "@:into") => {
                assert_whole(&inside.join("into/a"), done, false, at);
                assert_whole(&inside.join("into/below/b"), done, false, at);
            }
            (_, "out/file") => assert_whole(&ground.path("out/file"), done, true, at),
            (_, "out/tree") => {
                let tree = ground.path("out/tree");
                assert_whole(&tree.join("a"), done, false, at);
                let parts = [&tree, &tree.join("a")].map(|part| part.exists());
                assert!(parts[0] == parts[1], "{at}: {parts:?}");
            }
            _ => assert!(!done || ended.stdout.contains(&new()), "{at}: an incomplete archive"),
        }
    }

    /// The directories in which copies of this case may leave something until the next copy.
    pub fn copied_into(&self, ground: &Ground, vm: Option<&str>) -> Vec<PathBuf> {
        let mut found = vec![ground.path("out"), ground.path("out/tree")];
        if let Some(id) = vm {
            found.extend([work(ground, id), work(ground, id).join("into")]);
        }
        found
    }
}

/// Makes what killed copies left in these directories old enough for the next copy to delete it, and returns the number.
pub fn age_leftovers(directories: &[PathBuf]) -> usize {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok());
    let entries = entries.flatten().flatten();
    let left =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".mayfly-cp"));
    left.map(|entry| File::open(entry.path()).unwrap().set_modified(long_ago).unwrap()).count()
}

/// The home of a mock VM.
fn work(ground: &Ground, id: &str) -> PathBuf {
    ground.state.join("vms").join(id).join("work")
}

/// Makes the files that copies replace or begin with.
fn fill(work: &Path) {
    for directory in ["into", "source"] {
        fs::create_dir_all(work.join(directory)).unwrap();
    }
    fs::write(work.join("file"), OLD).unwrap();
    fs::write(work.join("source/a"), new()).unwrap();
}

fn assert_whole(file: &Path, done: bool, was_there: bool, at: &str) {
    let content = fs::read_to_string(file).ok();
    let right = match content.as_deref() {
        None => !done && !was_there,
        // What a copy out of the VM begins with.
        Some(OLD) => !done || file.ends_with("out/file"),
        Some(content) => content == new(),
    };
    let length = content.map(|content| content.len());
    assert!(right, "{at}: {} has {length:?} bytes", file.display());
}
