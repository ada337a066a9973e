//! Writing a root file system. The kernel resolves every name beneath its root, as if that were `/`, so
//! links of an archive lead where they would lead in the guest, and never out.

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
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmodat, fchmod, futimens, linkat, mkdirat,
    mknodat, openat, openat2, statat, symlinkat,
};
use rustix::io::Errno;

use super::attributes::{EntryAttributes, timestamps};
use super::budget::UnpackBudget;
use super::elf::ElfMachines;
use super::path::{MAX_DEPTH, shown};
use super::progress::UnpackProgress;
use crate::model::Refusal;
use crate::sys::file_system::OPEN_DIRECTORY;
use crate::sys::{descriptor, removal};

/// Bytes copied at a time, and the smallest hole that is left.
const CHUNK: usize = 1 << 16;

/// What is put into a tree.
pub enum RootfsEntry<'a> {
    Directory,
    /// A file of `size` bytes. `content` is its pieces, one after another, given by offset and length.
    File {
        content: &'a mut dyn Read,
        size: u64,
        pieces: &'a [(u64, u64)],
    },
    /// A symbolic link to this target.
    Link(&'a OsStr),
    /// A hard link to an existing file.
    Same(PathBuf),
    Fifo,
}

/// A root file system in a directory.
#[derive(Debug)]
pub struct RootfsTree {
    root: OwnedFd,
    /// The path of the root, as the kernel reports it.
    at: PathBuf,
    pub budget: UnpackBudget,
    pub machines: ElfMachines,
    pub progress: UnpackProgress,
    /// Device files that were left out: a guest has its own in `/dev`.
    pub devices: u64,
    /// Names of extended attributes that the file system did not take.
    pub lost: BTreeSet<OsString>,
    /// The directory that was last written to: most entries are in the same one as the entry before.
    last: Option<(PathBuf, OwnedFd)>,
    /// Times of directories. They are set last, because writing into a directory changes its time.
    times: BTreeMap<PathBuf, i64>,
}

impl RootfsTree {
    /// The tree in an existing directory.
    pub fn open(root: &Path, budget: UnpackBudget) -> Result<RootfsTree> {
        let opened = File::open(root).with_context(|| format!("cannot open {}", root.display()))?;
        let root = OwnedFd::from(opened);
        let at = path_of(root.as_fd())?;
        Ok(RootfsTree {
            root,
            at,
            budget,
            machines: ElfMachines::default(),
            progress: UnpackProgress::default(),
            devices: 0,
            lost: BTreeSet::new(),
            last: None,
            times: BTreeMap::new(),
        })
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Writes an entry. Missing parents are created. An existing file is replaced, but a directory by a
    /// directory is kept.
    ///
    /// # Errors
    /// `Usage` for what no archive should contain, `Host` if there is no room or the owner cannot be set, and
    /// those of the file system.
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
        self.progress.entry();
        self.budget.take(1, if let RootfsEntry::File { size, .. } = entry { size } else { 0 })?;
        let Some(name) = place.file_name() else {
            if let RootfsEntry::Directory = entry {
                let root = self.root.try_clone()?;
                self.times.insert(PathBuf::new(), attributes.mtime);
                return self.apply_attributes(root.as_fd(), attributes);
            }
            bail!(Refusal::usage("its root is not a directory"));
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
                // The target of a hard link must exist, and must not be deleted first.
                if let RootfsEntry::Same(of) = &entry {
                    self.kind(of)?.context("the file it links to does not exist")?;
                }
                self.forget(place);
                removal::remove_at(parent.as_fd(), name)?;
            }
            None => {}
        }
        let parent = parent.as_fd();
        match entry {
            RootfsEntry::Directory => {
                match mkdirat(parent, name, Mode::RWXU) {
                    Err(Errno::EXIST) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = openat(parent, name, OPEN_DIRECTORY, Mode::empty())?;
                self.times.insert(place.to_owned(), attributes.mtime);
                self.apply_attributes(made.as_fd(), attributes)
            }
            RootfsEntry::File { content, size, pieces } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                self.fill(&made, content, pieces, attributes.mode)?;
                made.set_len(size)?;
                self.apply_attributes(made.as_fd(), attributes)?;
                Ok(futimens(&made, &timestamps(attributes.mtime))?)
            }
            RootfsEntry::Link(target) => {
                symlinkat(target, parent, name)?;
                attributes.own(parent, name)?;
                Ok(attributes.set_time(parent, name)?)
            }
            RootfsEntry::Same(of) => {
                let of_name = of.file_name().context("the root cannot be linked to")?;
                let there = self.resolve(of.parent().unwrap_or(Path::new("")))?;
                Ok(linkat(there, of_name, parent, name, AtFlags::empty())?)
            }
            RootfsEntry::Fifo => {
                mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)?;
                attributes.own(parent, name)?;
                chmodat(parent, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
                Ok(attributes.set_time(parent, name)?)
            }
        }
    }

    /// The type of the file at `place`, without following a link there; `None` if nothing is there.
    pub fn kind(&self, place: &Path) -> Result<Option<FileType>> {
        let Some(name) = place.file_name() else { return Ok(Some(FileType::Directory)) };
        match self.resolve(place.parent().unwrap_or(Path::new(""))) {
            Ok(parent) => kind_at(parent.as_fd(), name),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory, following links beneath the root; `None` if there is none.
    pub fn directory(&self, place: &Path) -> Result<Option<OwnedFd>> {
        match self.resolve(place) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a directory unless it exists, following links.
    pub fn ensure_directory(&mut self, place: &Path) -> Result<()> {
        self.parent(&place.join("x")).map(drop)
    }

    /// Deletes a file or a directory with its contents, if it exists.
    pub fn remove(&mut self, place: &Path) -> Result<()> {
        let Some(name) = place.file_name() else { return Ok(()) };
        let Some(parent) = self.directory(place.parent().unwrap_or(Path::new("")))? else {
            return Ok(());
        };
        self.forget(place);
        removal::remove_at(parent.as_fd(), name)
            .with_context(|| format!("cannot delete {}", shown(place.as_os_str().as_bytes())))
    }

    /// The names in a directory; none if it does not exist.
    pub fn names(&self, place: &Path) -> Result<Vec<OsString>> {
        self.directory(place)?.map_or_else(|| Ok(Vec::new()), |found| names_in(found.as_fd()))
    }

    /// Sets the times of directories.
    pub fn set_directory_times(&mut self) -> Result<()> {
        for (place, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            if let Some(found) = self.directory(&place)? {
                let found = openat(found, ".", OPEN_DIRECTORY, Mode::empty())?;
                futimens(&found, &timestamps(mtime))?;
            }
        }
        Ok(())
    }

    /// The directory of an entry, created if necessary.
    fn parent(&mut self, place: &Path) -> Result<OwnedFd> {
        let wanted = place.parent().unwrap_or(Path::new(""));
        if let Some((last, found)) = &self.last
            && last == wanted
        {
            return Ok(found.try_clone()?);
        }
        let found = match self.resolve(wanted) {
            Err(Errno::NOENT) => self.create_parents(wanted)?,
            found => found.context("its directory cannot be reached")?,
        };
        // Through links, short names can lead ever deeper.
        let real = path_of(found.as_fd())?;
        let depth = real.strip_prefix(&self.at).map(|inside| inside.components().count());
        match depth {
            Ok(depth) if depth <= MAX_DEPTH => {}
            Ok(_) => bail!(Refusal::usage("it is too deep")),
            Err(_) => bail!("its directory {} is outside of the new system", real.display()),
        }
        self.last = Some((wanted.to_owned(), found.try_clone()?));
        Ok(found)
    }

    fn create_parents(&self, wanted: &Path) -> Result<OwnedFd> {
        let mut path = PathBuf::new();
        let mut found = self.resolve(&path)?;
        for part in wanted {
            path.push(part);
            found = match self.resolve(&path) {
                Err(Errno::NOENT) => {
                    mkdirat(&found, part, Mode::from_raw_mode(0o755))
                        .context("its directory cannot be reached")?;
                    let made = openat(&found, part, OPEN_DIRECTORY, Mode::empty())?;
                    // Regardless of the umask.
                    fchmod(&made, Mode::from_raw_mode(0o755))?;
                    self.resolve(&path)?
                }
                found => found?,
            };
        }
        Ok(found)
    }

    fn resolve(&self, directory: &Path) -> Result<OwnedFd, Errno> {
        let inside = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.root, inside, flags, Mode::empty(), resolve) {
                // The kernel could not resolve `..` safely because of a rename elsewhere.
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

    fn apply_attributes(&mut self, made: BorrowedFd, attributes: &EntryAttributes) -> Result<()> {
        attributes.apply(made, &mut |name| {
            self.lost.insert(name.clone());
        })
    }

    /// Forgets what is known about `place` and what is beneath it.
    fn forget(&mut self, place: &Path) {
        self.last = None;
        self.times.retain(|known, _| !known.starts_with(place));
    }
}

/// The path of a directory, as the kernel reports it.
fn path_of(directory: BorrowedFd) -> Result<PathBuf> {
    let link = descriptor::path(&directory);
    std::fs::read_link(&link).with_context(|| format!("cannot read {}", link.display()))
}

fn kind_at(parent: BorrowedFd, name: &OsStr) -> Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) => Ok(Some(FileType::from_raw_mode(about.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The sorted names in an open directory, which may be opened with `O_PATH`.
pub fn names_in(directory: BorrowedFd) -> Result<Vec<OsString>> {
    let readable = openat(directory, ".", OPEN_DIRECTORY, Mode::empty())?;
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
