//! Directories to unpack into, with a canary beside the tree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::directory;

const CANARY: &str = "canary";

/// A directory that is deleted at the end. It has the file `canary`, the directory `outside` with another one, and
/// the empty directory `tree`.
pub struct FuzzScratch {
    path: PathBuf,
    /// What is beside the tree.
    before: Vec<String>,
}

impl FuzzScratch {
    pub fn new() -> FuzzScratch {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mayfly-fuzz-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        for directory in ["tree", "outside"] {
            fs::create_dir(path.join(directory)).expect("a new directory");
        }
        for file in ["canary", "outside/canary"] {
            fs::write(path.join(file), CANARY).expect("a new file");
        }
        let before = beside(&path);
        FuzzScratch { path, before }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory to unpack into.
    pub fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// Checks that nothing beside the tree changed.
    pub fn check(&self) {
        assert_eq!(beside(&self.path), self.before, "something beside the tree changed");
    }
}

impl Drop for FuzzScratch {
    fn drop(&mut self) {
        let removed = directory::remove(&self.path);
        assert!(std::thread::panicking() || removed.is_ok(), "cannot clean up: {removed:?}");
    }
}

/// Names, metadata and contents of everything beside the tree.
fn beside(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for directory in [top.to_owned(), top.join("outside")] {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let about = path.symlink_metadata().expect("a file");
            let content =
                if about.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            // The time and the links of the tree itself change.
            let times = if path.ends_with("tree") { 0 } else { about.mtime_nsec() + about.mtime() };
            let mode = if path.ends_with("tree") { 0 } else { about.mode() };
            found.push(format!("{path:?} {mode:o} {times} {content:?}"));
        }
    }
    found.sort();
    found
}
