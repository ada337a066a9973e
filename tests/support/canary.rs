//! A secret that is found wherever it gets to.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mayfly::host::sparse::for_each_extent;
use memchr::memmem;
use nix::time::{ClockId, clock_gettime};

/// Text that is on this machine only where its test puts it: in the file it is made with.
pub struct Canary {
    pub text: String,
    pub file: PathBuf,
    /// What was written last before it existed does not have it.
    made: (i64, i64),
}

impl Canary {
    /// A new one, in a file of that name below `directory`, to be followed by `rest`.
    pub fn new(directory: &Path, name: &str, before: &str, rest: &str) -> Canary {
        let mut random = [0; 16];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Files' times are those of the coarse clock.
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap();
        let file = directory.join(name);
        fs::write(&file, format!("{before}{text}{rest}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Canary { text, file, made: (now.tv_sec(), now.tv_nsec()) }
    }

    /// Every file below these directories that has it in it, and every argument and variable of a
    /// process, but for the variables of those in `told`. Deleted files that a process holds count.
    pub fn places(&self, directories: &[PathBuf], told: &dyn Fn(i32) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for directory in directories {
            self.look_below(directory, &mut found);
        }
        // What is neither ours nor kept there: files made for a moment.
        for directory in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                self.look_into(&entry.path(), &mut found);
            }
        }
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let has = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                memmem::find(&bytes, self.text.as_bytes()).is_some()
            };
            if has("cmdline") {
                found.push(format!("the arguments of {pid}"));
            }
            if !told(pid) && has("environ") {
                found.push(format!("the environment of {pid}"));
            }
            for fd in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(fd.path()).unwrap_or_default();
                let target = target.to_string_lossy();
                // Memory is no file, whatever it is called.
                if target.ends_with(" (deleted)") && !target.starts_with("/memfd:") {
                    self.look_into(&fd.path(), &mut found);
                }
            }
        }
        found
    }

    fn look_below(&self, path: &Path, found: &mut Vec<String>) {
        // What vanishes meanwhile is nowhere.
        let Ok(about) = fs::symlink_metadata(path) else { return };
        if about.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.look_below(&entry.path(), found);
            }
        } else if about.is_file() {
            self.look_into(path, found);
        }
    }

    fn look_into(&self, path: &Path, found: &mut Vec<String>) {
        let Ok(about) = fs::metadata(path) else { return };
        let is_older = (about.mtime(), about.mtime_nsec()) < self.made;
        if !about.is_file() || is_older || path == self.file {
            return;
        }
        let Ok(file) = File::open(path) else { return };
        let wanted = memmem::Finder::new(&self.text);
        let mut buffer = vec![0; 1 << 20];
        let mut seen = false;
        for_each_extent(&file, &mut |start, end| {
            let mut position = start;
            while position < end && !seen {
                let count = file.read_at(&mut buffer, position)?;
                seen = wanted.find(&buffer[..count]).is_some();
                // It may lie across the border of two pieces.
                let step = count.saturating_sub(self.text.len());
                position = if count < buffer.len() { end } else { position + step as u64 };
            }
            Ok(())
        })
        .unwrap_or_default();
        if seen {
            found.push(path.display().to_string());
        }
    }
}
