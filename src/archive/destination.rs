//! Where a copy goes, by the rules of `docker cp`.
//!
//! | destination | a file | a directory |
//! |---|---|---|
//! | a directory | goes into it, under its own name | goes into it, under its own name; only its contents if the source ends in `/.` |
//! | something else | replaces it | is an error |
//! | does not exist | gets this name | gets this name |
//! | does not exist and ends in `/` | is an error | gets this name |

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::replaceable;

/// A destination as it is when the copy begins. Its directory is held open, so that later changes of the
/// path do not matter.
#[derive(Debug)]
pub struct CopyDestination {
    path: PathBuf,
    kind: DestinationKind,
}

#[derive(Debug)]
enum DestinationKind {
    Directory(OwnedFd),
    /// A name in a directory, of something that is not a directory or does not exist.
    Entry {
        parent: OwnedFd,
        name: OsString,
        exists: bool,
        ends_in_slash: bool,
    },
}

/// Directories that were created for a copy, the innermost first.
#[derive(Debug)]
pub struct CreatedDirectories(Vec<PathBuf>);

impl CreatedDirectories {
    /// Deletes them, up to the first that is not empty.
    pub fn undo(&self) {
        for directory in &self.0 {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Where the root of a stream goes.
#[derive(Debug)]
pub enum CopyTarget {
    /// Into this directory, under this name.
    As { parent: OwnedFd, name: OsString },
    /// The contents of the root go into this directory.
    Into { directory: OwnedFd },
}

/// What is copied there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource<'a> {
    /// Its name at the source; `None` if it has none, as `/`.
    pub name: Option<&'a OsStr>,
    /// Whether only the contents of a directory are copied.
    pub contents: bool,
    pub is_directory: bool,
}

impl CopyDestination {
    /// The destination at a path. Links in it are followed: the user chose it.
    ///
    /// # Errors
    /// If the path is empty or leads to a device, FIFO, socket or open file, or its directory does not exist.
    pub fn look(path: &Path) -> Result<CopyDestination> {
        if path.as_os_str().is_empty() {
            bail!("the destination is empty");
        }
        let kind = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => DestinationKind::Directory(open(path)?),
            Ok(_) => CopyDestination::name_of(path, true)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                CopyDestination::name_of(path, false)?
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look at {path:?}"));
            }
        };
        Ok(CopyDestination { path: path.to_owned(), kind })
    }

    /// A directory as a destination. It is created if it is missing, with its parents.
    ///
    /// # Errors
    /// If it cannot be created, or is not a directory.
    pub fn make(path: &Path) -> Result<(CopyDestination, CreatedDirectories)> {
        let missing = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
        let made =
            CreatedDirectories(path.ancestors().take_while(missing).map(Path::to_owned).collect());
        let looked = fs::create_dir_all(path)
            .with_context(|| format!("cannot create the directory {path:?}"))
            .and_then(|()| CopyDestination::look(path));
        match looked {
            Ok(destination) => Ok((destination, made)),
            Err(error) => {
                made.undo();
                Err(error)
            }
        }
    }

    fn name_of(path: &Path, exists: bool) -> Result<DestinationKind> {
        let name = path.file_name().map(OsStr::to_owned);
        let Some(name) = name.filter(|_| !path.as_os_str().as_bytes().ends_with(b"/.")) else {
            return Err(no_directory(path).into());
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let ends_in_slash = path.as_os_str().as_bytes().ends_with(b"/");
        let parent = open(parent)?;
        let refused = replaceable::why_not(parent.as_fd(), &name)
            .with_context(|| format!("cannot look at {path:?}"))?;
        if let Some(why) = refused {
            bail!("{path:?} {why}, which a copy does not replace");
        }
        Ok(DestinationKind::Entry { parent, name, exists, ends_in_slash })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory in which a copy is staged until it is complete.
    pub fn directory(&self) -> &OwnedFd {
        match &self.kind {
            DestinationKind::Directory(directory) => directory,
            DestinationKind::Entry { parent, .. } => parent,
        }
    }

    /// Where `source` goes.
    ///
    /// # Errors
    /// If it cannot go there by the rules of `docker cp`.
    pub fn target(&self, source: &CopySource<'_>) -> Result<CopyTarget> {
        let path = &self.path;
        let clone = |fd: &OwnedFd| fd.try_clone().context("cannot hold the directory");
        match (&self.kind, source.name) {
            (DestinationKind::Directory(directory), name) => {
                let whole = !(source.is_directory && source.contents);
                match (name.filter(|_| whole), source.is_directory) {
                    (Some(name), _) => {
                        Ok(CopyTarget::As { parent: clone(directory)?, name: name.to_owned() })
                    }
                    (None, true) => Ok(CopyTarget::Into { directory: clone(directory)? }),
                    (None, false) => bail!("{path:?} is a directory; name the file in it"),
                }
            }
            (DestinationKind::Entry { exists: true, .. }, _) if source.is_directory => {
                bail!("{path:?} is a file, but a directory is copied")
            }
            (DestinationKind::Entry { exists: false, ends_in_slash: true, .. }, _)
                if !source.is_directory =>
            {
                Err(no_directory(path).into())
            }
            (DestinationKind::Entry { parent, name, .. }, _) => {
                Ok(CopyTarget::As { parent: clone(parent)?, name: name.clone() })
            }
        }
    }
}

/// The name of what a path leads to; `None` if the path ends in no name, as `/`, `.`, `..` and `dir/.`.
/// Then the contents are meant.
pub fn own_name(path: &OsStr) -> Option<&OsStr> {
    let parts = path.as_bytes().split(|&byte| byte == b'/');
    let last = parts.rev().find(|part| !part.is_empty())?;
    (!matches!(last, b"." | b"..")).then(|| OsStr::from_bytes(last))
}

/// Creates the missing parents of a path.
pub fn make_parents(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {parent:?}"))
        }
        None => Ok(()),
    }
}

/// The error that a directory is missing.
pub fn no_directory(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("there is no directory {path:?}"))
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(rustix::fs::CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Err(no_directory(path).into()),
        other => other.with_context(|| format!("cannot open the directory {path:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_is_the_last_part_of_a_path() {
        for (path, name) in [
            ("a", Some("a")),
            ("/x/a//", Some("a")),
            ("...", Some("...")),
            ("", None),
            ("/", None),
            (".", None),
            ("a/.", None),
            ("a/./", None),
            ("a/..", None),
        ] {
            assert_eq!(own_name(OsStr::new(path)), name.map(OsStr::new), "{path}");
        }
    }

    /// What [`CopyDestination::target`] gives: the name at the destination, or `+` for the contents.
    fn goes(path: &Path, name: Option<&str>, is_directory: bool) -> Result<String> {
        let source =
            CopySource { name: name.map(OsStr::new), contents: name.is_none(), is_directory };
        Ok(match CopyDestination::look(path)?.target(&source)? {
            CopyTarget::As { name, .. } => name.into_string().unwrap(),
            CopyTarget::Into { .. } => "+".into(),
        })
    }

    #[test]
    fn the_rules_are_docker_cps() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("dir", at("to-dir")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let (file, tree) = (false, true);
        for (path, name, kind, goes_to) in [
            ("dir", Some("x"), file, "x"),
            ("dir/", Some("x"), file, "x"),
            ("to-dir", Some("x"), tree, "x"),
            ("dir", Some("x"), tree, "x"),
            ("dir", None, tree, "+"),
            ("file", Some("x"), file, "file"),
            ("new", Some("x"), file, "new"),
            ("new", Some("x"), tree, "new"),
            ("new", None, tree, "new"),
            ("new/", Some("x"), tree, "new"),
            ("dangling", Some("x"), file, "dangling"),
        ] {
            assert_eq!(goes(&at(path), name, kind).unwrap(), goes_to, "{path} {name:?} {kind}");
        }
        for (path, name, kind, why) in [
            ("file", Some("x"), tree, "is a file"),
            ("file", None, tree, "is a file"),
            ("new/", Some("x"), file, "there is no directory"),
            ("new/.", Some("x"), file, "there is no directory"),
            ("no/new", Some("x"), file, "there is no directory"),
            ("file/new", Some("x"), file, "file/new"),
            ("file/", Some("x"), file, "file/"),
            ("socket", Some("x"), file, "is a device, FIFO or socket"),
        ] {
            let error = format!("{:#}", goes(&at(path), name, kind).unwrap_err());
            assert!(error.contains(why), "{path}: {error}");
        }
    }
}
