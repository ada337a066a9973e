//! Writing a tree of files as a stream.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Advice, FileType, Mode, OFlags, Stat, fadvise, fstat, lstat, openat, stat};
use rustix::io::Errno;

use super::content;
use super::entry::{EntryKind, FileTime, TarEntry};
use super::entry_output::EntryOutput;
use super::name::EntryName;
use super::tally::{CopyObserver, CopyTally};
use crate::sys::file_system::{self, PATH_MAX};

/// How many files are opened before they are sent, so that they are read from the disk while others are sent. Waiting
/// for each would take an emulated guest longer than sending it.
const AHEAD: usize = 16;

/// How many bytes of each are read from the disk meanwhile. What follows is read ahead as in any file.
const READ_AHEAD: u64 = 128 * 1024;

/// A tree to send. If its path is a symbolic link, `follow` sends what that leads to.
#[derive(Debug, Clone, Copy)]
pub struct PackSource<'a> {
    pub path: &'a Path,
    pub follow: bool,
}

impl PackSource<'_> {
    /// The metadata of the path.
    pub fn stat(&self) -> Result<Stat> {
        let look = if self.follow { stat(self.path) } else { lstat(self.path) };
        look.with_context(|| format!("cannot copy {:?}", self.path))
    }

    /// Whether the path is a directory.
    pub fn is_directory(&self) -> Result<bool> {
        Ok(FileType::from_raw_mode(self.stat()?.st_mode) == FileType::Directory)
    }

    /// The paths of all files in the tree, each directory before its contents. What the kernel shows in file
    /// systems of its own, such as `/proc`, is left out unless it is the tree itself.
    pub fn everything(&self) -> impl Iterator<Item = Result<PathBuf>> + use<> {
        let device = self.stat().map(|stat| stat.st_dev).ok();
        let mut walk = walkdir::WalkDir::new(self.path)
            .follow_links(false)
            .follow_root_links(self.follow)
            .into_iter();
        std::iter::from_fn(move || {
            loop {
                let found = walk.next()?;
                if let Ok(entry) = &found
                    && entry.file_type().is_dir()
                    && entry.depth() > 0
                    && is_kernels(entry.path(), device)
                {
                    walk.skip_current_dir();
                }
                let path = skip_vanished(found.map(walkdir::DirEntry::into_path), |error| {
                    error.io_error().map(io::Error::kind)
                });
                if path.is_some() {
                    return path;
                }
            }
        })
    }

    /// The paths that no pattern of git's ignore files matches: of `.gitignore`, of `.git/info/exclude` and of the
    /// user's settings; with `parents`, also of `.gitignore` in the directories above within the same repository.
    /// A tracked file may match one.
    pub fn matching(&self, parents: bool) -> impl Iterator<Item = Result<PathBuf>> + use<> {
        ignore::WalkBuilder::new(self.path)
            .standard_filters(false)
            .git_ignore(true)
            .git_exclude(true)
            .git_global(true)
            .require_git(false)
            .parents(parents)
            .build()
            .filter_map(|found| {
                skip_vanished(found.map(ignore::DirEntry::into_path), |error| {
                    error.io_error().map(io::Error::kind)
                })
            })
    }

    /// The number of bytes in the files at these paths.
    pub fn total(&self, paths: impl Iterator<Item = Result<PathBuf>>) -> u64 {
        let files = paths.flatten().filter_map(|path| self.file_at(&path));
        files.map(|metadata| metadata.len()).sum()
    }

    /// The metadata of what is sent for a path, if it is a file.
    pub fn file_at(&self, path: &Path) -> Option<fs::Metadata> {
        let follow = self.follow && path == self.path;
        let found = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        found.ok().filter(fs::Metadata::is_file)
    }

    /// Sends the files at these paths, which are in this tree. Files that vanish meanwhile are skipped.
    pub fn pack(
        &self,
        paths: impl Iterator<Item = Result<PathBuf>>,
        output: &mut dyn EntryOutput,
        watch: &dyn CopyObserver,
    ) -> Result<CopyTally> {
        let mut tally = CopyTally::default();
        let mut head = Vec::new();
        let mut paths = paths.fuse();
        let mut waiting = VecDeque::new();
        loop {
            while waiting.len() < AHEAD
                && let Some(path) = paths.next()
            {
                waiting.extend(self.open(path?)?);
            }
            let Some(next) = waiting.pop_front() else { return Ok(tally) };
            send(next, &mut head, output, watch, &mut tally)?;
        }
    }

    /// Looks at what is at a path, and opens it if it is a file. `None` if it has vanished.
    fn open(&self, path: PathBuf) -> Result<Option<FoundFile>> {
        if path.as_os_str().len() >= PATH_MAX {
            bail!(TOO_LONG);
        }
        let name = path.strip_prefix(self.path).context("a path outside of the tree")?;
        let name = EntryName::parse(name.as_os_str().as_bytes())
            .with_context(|| format!("cannot copy {path:?}"))?;
        let is_root = name.is_root();
        let follow = is_root && self.follow;
        let stat = if follow { stat(&path) } else { lstat(&path) };
        let stat = match stat {
            Err(Errno::NOENT) if !is_root => return Ok(None),
            other => other.map_err(|errno| unreadable(errno, &path))?,
        };
        let mut content = None;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            // If it has become a FIFO meanwhile, opening it must not block.
            let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            flags.set(OFlags::NOFOLLOW, !follow);
            let file = match openat(rustix::fs::CWD, &path, flags, Mode::empty()) {
                Err(Errno::NOENT) if !is_root => return Ok(None),
                other => other.map_err(|errno| unreadable(errno, &path))?,
            };
            // Only a hint, which some file systems do not take.
            let _ = fadvise(&file, 0, NonZeroU64::new(READ_AHEAD), Advice::WillNeed);
            content = Some(File::from(file));
        }
        Ok(Some(FoundFile { path, name, stat, content }))
    }
}

/// What is to be sent next.
#[derive(Debug)]
struct FoundFile {
    path: PathBuf,
    name: EntryName,
    /// What was there before it was opened.
    stat: Stat,
    /// Only of a file.
    content: Option<File>,
}

/// Sends an entry. A file is looked at again, because it may have been changed since it was opened.
fn send(
    next: FoundFile,
    head: &mut Vec<u8>,
    output: &mut dyn EntryOutput,
    watch: &dyn CopyObserver,
    tally: &mut CopyTally,
) -> Result<()> {
    let FoundFile { path, name, stat: mut found, mut content } = next;
    if let Some(content) = &content {
        found = fstat(content).map_err(|errno| unreadable(errno, &path))?;
    }
    let kind = match (FileType::from_raw_mode(found.st_mode), &mut content) {
        (FileType::RegularFile, Some(content)) => {
            let claimed = u64::try_from(found.st_size).unwrap_or(0);
            let size =
                content::measure(content, claimed, head).map_err(|error| match error.kind() {
                    ErrorKind::WouldBlock => anyhow!("it has no end"),
                    ErrorKind::FileTooLarge => {
                        anyhow!("its size is unknown, and it has more than 64 MiB")
                    }
                    _ => error.into(),
                });
            EntryKind::File { size: size.with_context(|| format!("cannot read {path:?}"))? }
        }
        (FileType::Directory, None) => EntryKind::Directory,
        (FileType::Symlink, None) => {
            let target = match fs::read_link(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound && !name.is_root() => {
                    return Ok(());
                }
                other => other.with_context(|| format!("cannot read {path:?}"))?,
            };
            EntryKind::Link { target: target.as_os_str().as_bytes().to_vec() }
        }
        (_, None) => EntryKind::Special,
        _ => bail!("{path:?} changed while it was copied"),
    };
    let (mode, modified) = (found.st_mode & 0o777, FileTime::of(&found));
    let entry = TarEntry { name, kind, mode, modified };
    match &mut content {
        Some(content) => match output.file(&entry, &mut head.chain(content), watch) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bail!("{path:?} became shorter while it was copied")
            }
            result => result.with_context(|| format!("cannot send {path:?}"))?,
        },
        None => output.entry(&entry).with_context(|| format!("cannot send {path:?}"))?,
    }
    match entry.kind {
        EntryKind::Special => tally.skip(entry.name, &entry.kind),
        _ => tally.count(&entry.kind),
    }
    Ok(())
}

fn unreadable(errno: Errno, path: &Path) -> anyhow::Error {
    anyhow::Error::new(errno).context(format!("cannot read {path:?}"))
}

/// Whether a directory is in another file system than `device`, one that shows the kernel's state or devices.
fn is_kernels(directory: &Path, device: Option<u64>) -> bool {
    let is_other = stat(directory).is_ok_and(|there| Some(there.st_dev) != device);
    is_other && file_system::is_kernels(directory).unwrap_or(false)
}

/// Why something very deep is not copied: nothing could open it by its path.
const TOO_LONG: &str = "a path in it is longer than 4096 bytes";

/// A path that a walk found; `None` if it vanished meanwhile.
fn skip_vanished<E: std::error::Error + Send + Sync + 'static>(
    found: Result<PathBuf, E>,
    kind: impl Fn(&E) -> Option<ErrorKind>,
) -> Option<Result<PathBuf>> {
    match found {
        Ok(path) => Some(Ok(path)),
        // This is not the root, whose metadata was read before.
        Err(error) if kind(&error) == Some(ErrorKind::NotFound) => None,
        Err(error) if kind(&error) == Some(ErrorKind::InvalidFilename) => {
            Some(Err(anyhow!(TOO_LONG)))
        }
        Err(error) => Some(Err(anyhow::Error::new(error).context("cannot read everything"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Deletes all but itself when the first file comes, and notes what came.
    struct Deleter<'a> {
        tree: &'a Path,
        files: usize,
        links: usize,
    }

    impl EntryOutput for Deleter<'_> {
        fn entry(&mut self, entry: &TarEntry) -> io::Result<()> {
            self.links += usize::from(matches!(entry.kind, EntryKind::Link { .. }));
            Ok(())
        }

        fn file(
            &mut self,
            entry: &TarEntry,
            content: &mut dyn Read,
            _: &dyn CopyObserver,
        ) -> io::Result<()> {
            if self.files == 0 {
                fs::read_dir(self.tree)?.try_for_each(|found| fs::remove_file(found?.path()))?;
                self.links = 0;
            }
            self.files += 1;
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            assert_eq!(text.as_bytes(), entry.name.to_bytes());
            Ok(())
        }
    }

    #[test]
    fn what_vanishes_is_left_out_unless_it_is_open() {
        let tree = tempfile::tempdir().unwrap();
        for number in 0..3 * AHEAD {
            let name = format!("f{number}");
            fs::write(tree.path().join(&name), &name).unwrap();
            symlink(&name, tree.path().join(format!("l{number}"))).unwrap();
        }
        let source = PackSource { path: tree.path(), follow: false };
        let mut output = Deleter { tree: tree.path(), files: 0, links: 0 };
        source.pack(source.everything(), &mut output, &()).unwrap();
        assert!((1..=AHEAD).contains(&output.files), "{}", output.files);
        assert_eq!(output.links, 0);
    }
}
