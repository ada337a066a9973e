//! A root file system being written: every name in it is resolved beneath its root, by the kernel, as if
//! that were `/`. Links of an archive lead where they would lead in the guest, and never out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::budget::UnpackBudget;
use super::elf::ElfMachines;
use super::path::{MAX_DEPTH, shown};
use crate::model::{Refusal, RefusalKind};
use crate::sys::descriptor;

/// Bytes copied at a time, and the smallest hole that is left.
const CHUNK: usize = 1 << 16;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is put into a tree.
pub enum RootfsEntry<'a> {
    Directory,
    /// A file of `size` bytes. `content` is the pieces of it that go to these offsets and have these
    /// lengths, one after another.
    File {
        content: &'a mut dyn Read,
        size: u64,
        pieces: &'a [(u64, u64)],
    },
    /// A symbolic link to there, whatever that is.
    Link(&'a OsStr),
    /// Another name of a file that is there.
    Same(PathBuf),
    Fifo,
}

/// What belongs to an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryAttributes {
    /// Permissions with the set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended ones, by name.
    pub extended: Vec<(OsString, Vec<u8>)>,
}

impl EntryAttributes {
    /// Root's, and nobody else may write.
    pub fn plain(mode: u32) -> EntryAttributes {
        EntryAttributes { mode, ..EntryAttributes::default() }
    }
}

/// The tree.
#[derive(Debug)]
pub struct RootfsTree {
    root: OwnedFd,
    /// Where the root is, as the kernel calls it.
    at: PathBuf,
    pub budget: UnpackBudget,
    pub machines: ElfMachines,
    /// Extended attributes that could not be kept, by name.
    pub lost: BTreeSet<OsString>,
    /// The directory that was last written to: most entries follow their neighbours.
    last: Option<(PathBuf, OwnedFd)>,
    /// Writing into a directory changes its time, so that comes last.
    times: BTreeMap<PathBuf, i64>,
}

impl RootfsTree {
    /// The tree in a directory that is there.
    pub fn open(root: &Path, budget: UnpackBudget) -> Result<RootfsTree> {
        let opened = File::open(root).with_context(|| format!("cannot open {}", root.display()))?;
        let root = OwnedFd::from(opened);
        let at = path_of(root.as_fd())?;
        Ok(RootfsTree {
            root,
            at,
            budget,
            machines: ElfMachines::default(),
            lost: BTreeSet::new(),
            last: None,
            times: BTreeMap::new(),
        })
    }

    /// The directory itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Puts an entry in its place. Directories on the way that are missing are made; what is there
    /// already gives way, but a directory stays one.
    pub fn put(
        &mut self,
        place: &Path,
        entry: RootfsEntry,
        attributes: &EntryAttributes,
    ) -> Result<()> {
        self.put_entry(place, entry, attributes)
            .with_context(|| format!("cannot unpack {}", shown(place.as_os_str().as_bytes())))
    }

    fn put_entry(
        &mut self,
        place: &Path,
        entry: RootfsEntry,
        attributes: &EntryAttributes,
    ) -> Result<()> {
        self.budget.take(if let RootfsEntry::File { size, .. } = entry { size } else { 0 })?;
        let Some(name) = place.file_name() else {
            if let RootfsEntry::Directory = entry {
                let root = self.root.try_clone()?;
                self.times.insert(PathBuf::new(), attributes.mtime);
                return self.furnish(root.as_fd(), attributes);
            }
            bail!(Refusal::new(RefusalKind::Usage, "its root is no directory"));
        };
        let parent = self.parent(place)?;
        let is_directory = matches!(entry, RootfsEntry::Directory);
        if let RootfsEntry::Same(of) = &entry
            && of == place
        {
            return Ok(());
        }
        match kind_at(parent.as_fd(), name)? {
            Some(FileType::Directory) if is_directory => {}
            Some(_) => {
                // One that the new name is for must not be deleted first, and must be there.
                if let RootfsEntry::Same(of) = &entry {
                    self.kind(of)?.context("the file it is another name of is not there")?;
                }
                self.forget(place);
                remove_at(parent.as_fd(), name)?;
            }
            None => {}
        }
        let parent = parent.as_fd();
        match entry {
            RootfsEntry::Directory => {
                match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                    Err(Errno::EXIST) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
                self.times.insert(place.to_owned(), attributes.mtime);
                self.furnish(made.as_fd(), attributes)
            }
            RootfsEntry::File { content, size, pieces } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made =
                    File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                self.fill(&made, content, pieces, attributes.mode)?;
                made.set_len(size)?;
                self.furnish(made.as_fd(), attributes)?;
                Ok(rustix::fs::futimens(&made, &times(attributes.mtime))?)
            }
            RootfsEntry::Link(target) => {
                rustix::fs::symlinkat(target, parent, name)?;
                own_at(parent, name, attributes)?;
                Ok(set_time(parent, name, attributes.mtime)?)
            }
            RootfsEntry::Same(of) => {
                let of_name = of.file_name().context("the root has no other name")?;
                let there = self.resolve(of.parent().unwrap_or(Path::new("")))?;
                Ok(rustix::fs::linkat(there, of_name, parent, name, AtFlags::empty())?)
            }
            RootfsEntry::Fifo => {
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)?;
                own_at(parent, name, attributes)?;
                rustix::fs::chmodat(
                    parent,
                    name,
                    Mode::from_raw_mode(attributes.mode),
                    AtFlags::empty(),
                )?;
                Ok(set_time(parent, name, attributes.mtime)?)
            }
        }
    }

    /// What is there, links not followed; `None` where nothing is.
    pub fn kind(&self, place: &Path) -> Result<Option<FileType>> {
        let Some(name) = place.file_name() else { return Ok(Some(FileType::Directory)) };
        match self.resolve(place.parent().unwrap_or(Path::new(""))) {
            Ok(parent) => kind_at(parent.as_fd(), name),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory, links followed beneath the root; `None` where there is none.
    pub fn directory(&self, place: &Path) -> Result<Option<OwnedFd>> {
        match self.resolve(place) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes sure there is a directory, links followed; one that is there stays as it is.
    pub fn ensure_directory(&mut self, place: &Path) -> Result<()> {
        self.parent(&place.join("x")).map(drop)
    }

    /// Deletes what is there, and what is in it. Nothing is no error.
    pub fn remove(&mut self, place: &Path) -> Result<()> {
        let Some(name) = place.file_name() else { return Ok(()) };
        let Some(parent) = self.directory(place.parent().unwrap_or(Path::new("")))? else {
            return Ok(());
        };
        self.forget(place);
        remove_at(parent.as_fd(), name)
            .with_context(|| format!("cannot delete {}", shown(place.as_os_str().as_bytes())))
    }

    /// The names in a directory; none where there is no directory.
    pub fn names(&self, place: &Path) -> Result<Vec<OsString>> {
        self.directory(place)?.map_or_else(|| Ok(Vec::new()), |found| names_in(found.as_fd()))
    }

    /// Gives directories the times they should have.
    pub fn settle_times(&mut self) -> Result<()> {
        for (place, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            if let Some(found) = self.directory(&place)? {
                let found = rustix::fs::openat(found, ".", DIRECTORY, Mode::empty())?;
                rustix::fs::futimens(&found, &times(mtime))?;
            }
        }
        Ok(())
    }

    /// The directory an entry belongs into, made if need be.
    fn parent(&mut self, place: &Path) -> Result<OwnedFd> {
        let wanted = place.parent().unwrap_or(Path::new(""));
        if let Some((last, found)) = &self.last
            && last == wanted
        {
            return Ok(found.try_clone()?);
        }
        let found = match self.resolve(wanted) {
            Err(Errno::NOENT) => self.make_way(wanted)?,
            found => found.context("there is no way to its directory")?,
        };
        // Through links, names that look harmless can lead ever deeper.
        let real = path_of(found.as_fd())?;
        let depth = real.strip_prefix(&self.at).map(|inside| inside.components().count());
        match depth {
            Ok(depth) if depth <= MAX_DEPTH => {}
            Ok(_) => bail!(Refusal::new(RefusalKind::Usage, "it lies too deep")),
            Err(_) => bail!("its directory {} is not in the new system", real.display()),
        }
        self.last = Some((wanted.to_owned(), found.try_clone()?));
        Ok(found)
    }

    fn make_way(&self, wanted: &Path) -> Result<OwnedFd> {
        let mut way = PathBuf::new();
        let mut found = self.resolve(&way)?;
        for part in wanted {
            way.push(part);
            found = match self.resolve(&way) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&found, part, Mode::from_raw_mode(0o755))
                        .context("there is no way to its directory")?;
                    let made = rustix::fs::openat(&found, part, DIRECTORY, Mode::empty())?;
                    // Whatever the umask was.
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                    self.resolve(&way)?
                }
                found => found?,
            };
        }
        Ok(found)
    }

    fn resolve(&self, directory: &Path) -> Result<OwnedFd, Errno> {
        let inside = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, inside, flags, Mode::empty(), resolve) {
                // Something was renamed elsewhere meanwhile, and the kernel is not sure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                found => return found,
            }
        }
    }

    fn fill(
        &mut self,
        file: &File,
        content: &mut dyn Read,
        pieces: &[(u64, u64)],
        mode: u32,
    ) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        for &(offset, length) in pieces {
            let (mut position, end) = (offset, offset + length);
            while position < end {
                let wanted = usize::try_from(end - position).unwrap_or(CHUNK).min(CHUNK);
                let bytes = &mut buffer[..wanted];
                content.read_exact(bytes).context("its content cannot be read")?;
                if position == 0 && mode & 0o111 != 0 {
                    self.machines.look(bytes);
                }
                if bytes.iter().any(|&byte| byte != 0) {
                    file.write_all_at(bytes, position)?;
                    self.budget.wrote(wanted as u64, &self.root)?;
                }
                position += wanted as u64;
            }
        }
        Ok(())
    }

    /// Owner first: a change of it takes away set-id bits and capabilities.
    fn furnish(&mut self, made: BorrowedFd, attributes: &EntryAttributes) -> Result<()> {
        let (uid, gid) = owner(attributes);
        rustix::fs::fchown(made, Some(uid), Some(gid))
            .map_err(|error| unowned(error, attributes))?;
        rustix::fs::fchmod(made, Mode::from_raw_mode(attributes.mode))?;
        for (name, value) in &attributes.extended {
            match rustix::fs::fsetxattr(made, name, value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL | Errno::NOSPC | Errno::RANGE) => {
                    self.lost.insert(name.clone());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A name stands for something else now, and what was below it is gone.
    fn forget(&mut self, place: &Path) {
        self.last = None;
        self.times.retain(|known, _| !known.starts_with(place));
    }
}

/// Where a directory is, as the kernel calls it.
fn path_of(directory: BorrowedFd) -> Result<PathBuf> {
    let link = descriptor::path(&directory);
    std::fs::read_link(&link).with_context(|| format!("cannot read {}", link.display()))
}

pub fn kind_at(parent: BorrowedFd, name: &OsStr) -> Result<Option<FileType>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names in an open directory, whatever it was opened for.
pub fn names_in(directory: BorrowedFd) -> Result<Vec<OsString>> {
    let readable = rustix::fs::openat(directory, ".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(readable)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(&name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// No deeper than trees get here.
fn remove_at(parent: BorrowedFd, name: &OsStr) -> Result<()> {
    match kind_at(parent, name)? {
        None => Ok(()),
        Some(FileType::Directory) => {
            let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
            for name in names_in(directory.as_fd())? {
                remove_at(directory.as_fd(), &name)?;
            }
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Some(_) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}

fn own_at(parent: BorrowedFd, name: &OsStr, attributes: &EntryAttributes) -> Result<()> {
    let (uid, gid) = owner(attributes);
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| unowned(error, attributes))
}

fn owner(attributes: &EntryAttributes) -> (Uid, Gid) {
    (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid))
}

/// Why a file cannot belong to whom it should.
fn unowned(error: Errno, attributes: &EntryAttributes) -> anyhow::Error {
    let EntryAttributes { uid, gid, .. } = attributes;
    match error {
        Errno::INVAL | Errno::PERM => Refusal::new(
            RefusalKind::Host,
            format!("it belongs to user {uid} and group {gid}, whom you have no subordinate ids for"),
        )
        .hint("import it as root, or give yourself more subordinate ids: usermod --add-subuids, --add-subgids")
        .into(),
        error => error.into(),
    }
}

fn set_time(parent: BorrowedFd, name: &OsStr, mtime: i64) -> Result<(), Errno> {
    rustix::fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
