//! A random secret, and a search for copies of it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mayfly::host::sparse::for_each_extent;
use memchr::memmem;
use nix::time::{ClockId, clock_gettime};

/// Random text in a file. It is nowhere else on this machine unless something copies it.
pub struct Canary {
    pub text: String,
    pub file: PathBuf,
    /// Seconds and nanoseconds. Files that were last written before cannot contain the text.
    made: (i64, i64),
}

impl Canary {
    /// Writes `before`, new random text and `rest` to a file `name` in `directory`.
    pub fn new(directory: &Path, name: &str, before: &str, rest: &str) -> Canary {
        let mut random = [0; 16];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // The kernel takes the times of files from the coarse clock.
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap();
        let file = directory.join(name);
        fs::write(&file, format!("{before}{text}{rest}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Canary { text, file, made: (now.tv_sec(), now.tv_nsec()) }
    }

    /// Files below these directories that contain the text, deleted files that a process has open, and processes with
    /// the text in their arguments or variables. Variables of processes in `told` do not count.
    pub fn places(&self, directories: &[PathBuf], told: &dyn Fn(i32) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for directory in directories {
            self.look_below(directory, &mut found);
        }
        // Temporary files.
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
                // Anonymous memory looks like a deleted file.
                if target.ends_with(" (deleted)") && !target.starts_with("/memfd:") {
                    self.look_into(&fd.path(), &mut found);
                }
            }
        }
        found
    }

    fn look_below(&self, path: &Path, found: &mut Vec<String>) {
        // Files may vanish meanwhile.
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
                // The text may span two pieces.
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
