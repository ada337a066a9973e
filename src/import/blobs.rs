//! The files that an image is packed in: manifest, configuration and layers, in an archive or a directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::cancellable::CancellableInput;
use super::path::{place, shown};
use crate::archive::MemberReader;
use crate::image::ProgressSink;
use crate::model::Refusal;

/// Bytes of a manifest or configuration. The specification asks for at most 4 MiB.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Files in the archive of an image, which has two for each layer and a few more.
const MAX_FILES: usize = 10_000;

/// How many links from one file of an archive to the next are followed.
const MAX_LINKS: usize = 8;

/// Where a packed file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobLocation {
    /// In the archive.
    Range { offset: u64, size: u64 },
    /// In the directory.
    File(PathBuf),
}

/// The archive or directory with the packed files.
#[derive(Debug)]
pub enum PackedFiles {
    Archive(File, HashMap<PathBuf, PackedEntry>),
    Directory(OwnedFd),
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackedEntry {
    File {
        offset: u64,
        size: u64,
    },
    /// A link to another name, relative to the root of the archive.
    Link(PathBuf),
}

impl PackedFiles {
    /// Finds the files of an uncompressed archive, without reading their content. `None` if there are more files
    /// than the archive of an image has.
    ///
    /// # Errors
    /// `Usage` for what is no archive or is damaged.
    pub fn archive(file: File, progress: &dyn ProgressSink) -> Result<Option<PackedFiles>> {
        let length = file.metadata().context("cannot read the archive's size")?.len();
        let mut files = HashMap::new();
        let mut reader = io::BufReader::new(CancellableInput::new(file.try_clone()?, progress));
        reader.seek(SeekFrom::Start(0))?;
        let mut members = MemberReader::new(reader);
        let mut skip = |reader: &mut io::BufReader<CancellableInput>, bytes: u64| {
            reader.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)
        };
        let mut is_empty = true;
        loop {
            let member = members.next_member_with(&mut skip);
            let member = match member {
                Ok(Some(member)) => member,
                Ok(None) => break,
                Err(error) if is_empty => return Err(no_archive(&error).into()),
                Err(error) => return Err(damaged(&error).into()),
            };
            let offset = members.position();
            let name = place(&member.name)?;
            // Some archives begin with their root directory.
            is_empty &= name.as_os_str().is_empty();
            let found = match member.kind {
                EntryType::Regular | EntryType::Continuous => {
                    if offset.checked_add(member.size).is_none_or(|end| end > length) {
                        bail!(cut_short());
                    }
                    PackedEntry::File { offset, size: member.size }
                }
                EntryType::Link => PackedEntry::Link(place(&member.link)?),
                EntryType::Symlink => match link_target(&name, &member.link) {
                    Some(target) => PackedEntry::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            files.insert(name, found);
            if files.len() > MAX_FILES {
                return Ok(None);
            }
        }
        if is_empty {
            bail!(Refusal::usage("the archive is empty"));
        }
        if !members.has_end() {
            bail!(cut_short());
        }
        Ok(Some(PackedFiles::Archive(file, files)))
    }

    /// The archive or directory itself.
    pub fn into_file(self) -> File {
        match self {
            PackedFiles::Archive(file, _) => file,
            PackedFiles::Directory(directory) => directory.into(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Whether there is a directory of this name; in an archive, one with files.
    pub fn has_directory(&self, name: &str) -> bool {
        match self {
            PackedFiles::Archive(_, files) => files.keys().any(|file| file.starts_with(name)),
            PackedFiles::Directory(root) => open_beneath(root, Path::new(name))
                .and_then(|opened| opened.metadata())
                .is_ok_and(|about| about.is_dir()),
        }
    }

    /// Finds a file by its name.
    ///
    /// # Errors
    /// `Usage` if there is none.
    pub fn find(&self, name: &str) -> Result<BlobLocation> {
        let missing = || {
            Refusal::usage(format!("it has no {}", shown(name.as_bytes())))
                .hint("fetch or save the image again")
        };
        let wanted = place(name.as_bytes())?;
        match self {
            PackedFiles::Archive(_, files) => {
                let mut found = files.get(&wanted);
                for _ in 0..MAX_LINKS {
                    match found {
                        Some(PackedEntry::Link(target)) => found = files.get(target),
                        _ => break,
                    }
                }
                match found {
                    Some(&PackedEntry::File { offset, size }) => {
                        Ok(BlobLocation::Range { offset, size })
                    }
                    _ => Err(missing().into()),
                }
            }
            PackedFiles::Directory(directory) => match open_beneath(directory, &wanted) {
                Ok(_) => Ok(BlobLocation::File(wanted)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing().into()),
                Err(error) => Err(error).with_context(|| format!("cannot open {name}")),
            },
        }
    }

    /// Reads a manifest or a configuration.
    ///
    /// # Errors
    /// `Usage` if it is missing or too large, and those of reading it.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        let file = match self {
            PackedFiles::Archive(file, _) => file.try_clone()?,
            PackedFiles::Directory(directory) => File::from(directory.try_clone()?),
        };
        let mut content = Vec::new();
        let (reader, _) = open(&file, &self.find(name)?)?;
        reader.take(MAX_DOCUMENT + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_DOCUMENT {
            let message =
                format!("{} is too large for a manifest or configuration", shown(name.as_bytes()));
            bail!(Refusal::usage(message));
        }
        Ok(content)
    }
}

/// Whether a directory has no entries.
///
/// # Errors
/// It is not a directory, or cannot be read.
pub fn is_empty_directory(directory: &File) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        if ![c".", c".."].contains(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn no_archive(error: &anyhow::Error) -> Refusal {
    Refusal::usage(format!("it is not an archive of a root file system: {error:#}"))
        .hint("see 'mayfly image import --help' for what can be imported")
}

fn damaged(error: &anyhow::Error) -> Refusal {
    Refusal::usage(format!("the archive is damaged: {error:#}")).hint("fetch or save it again")
}

/// The refusal of an archive that ends too early.
pub fn cut_short() -> Refusal {
    Refusal::usage("the archive is cut short").hint("fetch or save it again")
}

/// Where a symbolic link of an archive leads, relative to its root; `None` if that is outside.
fn link_target(name: &Path, target: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut path = name.parent()?.to_owned();
    for part in Path::new(std::ffi::OsStr::from_bytes(target)).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Opens a packed file in the archive or directory `packed`. Returns its length too. Only one file of an
/// archive can be read at a time.
///
/// # Errors
/// `Usage` if it is not a regular file, and those of opening it.
pub fn open(packed: &File, at: &BlobLocation) -> Result<(Box<dyn Read>, u64)> {
    match at {
        BlobLocation::Range { offset, size } => {
            let mut file = packed.try_clone()?;
            file.seek(SeekFrom::Start(*offset))?;
            Ok((Box::new(file.take(*size)), *size))
        }
        BlobLocation::File(name) => {
            let file = open_beneath(packed, name)
                .with_context(|| format!("cannot open {}", name.display()))?;
            let about = file.metadata()?;
            if !about.is_file() {
                bail!(Refusal::usage(format!("{} is not a file", name.display())));
            }
            let size = about.len();
            Ok((Box::new(file), size))
        }
    }
}

/// Opens a file beneath a directory. Links are followed, because layouts may share blobs by them, but never
/// out of the directory.
fn open_beneath(directory: impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)?.into())
}
