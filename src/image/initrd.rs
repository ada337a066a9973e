//! The initrd: two cpio archives one after the other, as the kernel accepts them. The first holds the
//! modules and never changes; the second holds the agent, so that it can be replaced without other tools.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType, trailer};

/// Where the agent finds its modules and their order.
const MODULES: &str = "modules";

/// Directories on which the agent mounts file systems before it has the root file system.
const DIRECTORIES: [&str; 7] = ["dev", "proc", "sys", "run", "tmp", "root", MODULES];

/// The archive with the directories, `/dev/console` and the modules: `/modules/<file>.ko`, and
/// `/modules/order` with one file name a line, in load order.
///
/// `files` are paths below `base`, in load order.
///
/// # Errors
/// Two have the same name, one is compressed (the agent cannot decompress), or one cannot be read.
pub fn modules_archive(base: &Path, files: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.directory(directory)?;
    }
    // The kernel opens it as init's standard streams, before anything is mounted.
    archive.character_device("dev/console", 5, 1)?;
    let mut order: Vec<&str> = Vec::new();
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        if !name.ends_with(".ko") {
            bail!("the module {file} is compressed; only plain .ko files are supported");
        }
        if order.contains(&name) {
            bail!("two modules are called {name}");
        }
        order.push(name);
        let path = base.join(file);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(&format!("{MODULES}/{name}"), 0o600, &content)?;
    }
    let order: String = order.iter().flat_map(|name| [name, "\n"]).collect();
    archive.file(&format!("{MODULES}/order"), 0o600, order.as_bytes())?;
    archive.finish()
}

/// The archive with the agent as `/init`.
pub fn agent_archive(agent: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("init", 0o755, agent)?;
    archive.finish()
}

/// A newc archive in memory. Every file belongs to root and has time 0, so that equal content makes equal
/// bytes.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) -> Result<()> {
        let entry = Builder::new(name).nlink(2).mode(0o755);
        self.add(entry.set_mode_file_type(ModeFileType::Directory), b"")
    }

    fn character_device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        let entry = Builder::new(name).mode(0o600).rdev_major(major).rdev_minor(minor);
        self.add(entry.set_mode_file_type(ModeFileType::Char), b"")
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let entry = Builder::new(name).mode(mode);
        self.add(entry.set_mode_file_type(ModeFileType::Regular), content)
    }

    fn add(&mut self, entry: Builder, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let length = u32::try_from(content.len()).context("a file is too large for an initrd")?;
        let mut writer = entry.ino(self.entries).write(&mut self.bytes, length);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        trailer(&mut self.bytes)?;
        // The next archive must begin at a multiple of four; cpio itself writes whole blocks.
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    /// Name, mode, content of each entry.
    fn entries(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let mut reader = Reader::new(archive).unwrap();
            let entry = (reader.entry().name().to_owned(), reader.entry().mode());
            if reader.entry().is_trailer() {
                return found;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            archive = reader.finish().unwrap();
            found.push((entry.0, entry.1, content));
        }
    }

    #[test]
    fn modules_are_flat_and_ordered() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kernel/fs")).unwrap();
        fs::write(dir.path().join("kernel/b.ko"), "bbb").unwrap();
        fs::write(dir.path().join("kernel/fs/a.ko"), "a").unwrap();
        let files = ["kernel/b.ko".to_owned(), "kernel/fs/a.ko".to_owned()];
        let archive = modules_archive(dir.path(), &files).unwrap();
        assert_eq!(archive.len() % 512, 0);

        let entries = entries(&archive);
        let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "dev",
                "proc",
                "sys",
                "run",
                "tmp",
                "root",
                "modules",
                "dev/console",
                "modules/b.ko",
                "modules/a.ko",
                "modules/order",
            ]
        );
        assert_eq!(entries[0].1, 0o040_755);
        assert_eq!(entries[7].1, 0o020_600);
        assert_eq!(entries[8].2, b"bbb");
        assert_eq!(entries[10].2, b"b.ko\na.ko\n");
        assert_eq!(archive, modules_archive(dir.path(), &files).unwrap());
    }

    #[test]
    fn the_agent_is_init() {
        let entries = entries(&agent_archive(b"program").unwrap());
        assert_eq!(entries, [("init".to_owned(), 0o100_755, b"program".to_vec())]);
    }

    #[test]
    fn compressed_missing_and_ambiguous_modules_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("x")).unwrap();
        fs::write(dir.path().join("a.ko"), "").unwrap();
        fs::write(dir.path().join("x/a.ko"), "").unwrap();
        let try_with = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
            modules_archive(dir.path(), &files).unwrap_err().to_string()
        };
        assert!(try_with(&["a.ko.xz"]).contains("compressed"));
        assert!(try_with(&["a.ko", "x/a.ko"]).contains("two modules"));
        assert!(try_with(&["gone.ko"]).contains("cannot read"));
    }
}
