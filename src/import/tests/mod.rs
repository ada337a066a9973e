//! Unpacking valid and hostile archives. A directory beside each tree must stay unchanged.

mod hostile;
mod layers;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use tar::EntryType::{Directory, Link, Regular, Symlink};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::budget::{UnpackBounds, UnpackBudget};
use super::layer::{WhiteoutNames, apply};
use super::rootfs::RootfsTree;

/// A tar archive, valid or not.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(self, name: &str, content: &str) -> Tar {
        self.add(Regular, name, "", 0o644, content.as_bytes())
    }

    fn dir(self, name: &str) -> Tar {
        self.add(Directory, name, "", 0o755, b"")
    }

    fn link(self, name: &str, target: &str) -> Tar {
        self.add(Symlink, name, target, 0o777, b"")
    }

    fn same(self, name: &str, of: &str) -> Tar {
        self.add(Link, name, of, 0o644, b"")
    }

    fn add(self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Tar {
        self.raw(kind, name.as_bytes(), link.as_bytes(), content, |header| header.set_mode(mode))
    }

    /// An entry of any kind, whose header `change` may change.
    fn raw(
        mut self,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        content: &[u8],
        change: impl Fn(&mut Header),
    ) -> Tar {
        let mut header = Header::new_gnu();
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_uid(uid.as_raw().into());
        header.set_gid(gid.as_raw().into());
        // The crate's setters refuse hostile names.
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        change(&mut header);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            content.extend(length.to_string().into_bytes());
            content.extend(rest);
        }
        self.add(EntryType::XHeader, "pax", "", 0o644, &content)
    }
}

/// A directory to unpack in, and one beside it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("outside/inner")).unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        fs::write(dir.path().join("outside/inner/canary"), "alive, too").unwrap();
        fs::set_permissions(dir.path().join("outside"), fs::Permissions::from_mode(0o750)).unwrap();
        Place { dir }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// An absolute path beside the tree.
    fn out(&self, name: &str) -> String {
        self.outside().join(name).to_str().unwrap().to_owned()
    }

    /// Unpacks layers, and gives the number of device files that were left out.
    fn put(&self, layers: &[Tar]) -> Result<u64> {
        let bounds = UnpackBounds { bytes: 10 << 20, entries: 1000 };
        let mut tree = RootfsTree::open(&self.tree(), UnpackBudget::new(bounds)).unwrap();
        for layer in layers {
            apply(&mut &layer.0[..], WhiteoutNames::Whiteouts, &mut tree)?;
        }
        Ok(tree.devices)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.tree().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn has(&self, name: &str) -> bool {
        self.tree().join(name).symlink_metadata().is_ok()
    }
}

/// Everything in a directory that could have been changed.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let about = path.symlink_metadata().unwrap();
        let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if about.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(
            path,
            (about.mode(), about.nlink(), about.ctime(), about.ctime_nsec(), content),
        );
    }
    found
}
