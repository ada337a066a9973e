//! Where a copy goes: docker cp's rules.
//!
//! | destination | a file goes | a directory goes |
//! |---|---|---|
//! | a directory | into it, under its own name | into it, under its own name; only what is in it, where the source ends in `/.` |
//! | something else | in its place | nowhere: an error |
//! | nothing there | there | there |
//! | nothing there, and ends in `/` | nowhere: an error | there |

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

/// A destination as it is when the copy begins. From then on only what is held here counts, whatever
/// becomes of the path.
#[derive(Debug)]
pub struct CopyDestination {
    path: PathBuf,
    there: There,
}

#[derive(Debug)]
enum There {
    Directory(OwnedFd),
    /// A name in a directory: of something else, or of nothing.
    Name {
        parent: OwnedFd,
        name: OsString,
        taken: bool,
        slash: bool,
    },
}

/// Directories that were made for a copy, the innermost first.
#[derive(Debug)]
pub struct CreatedDirectories(Vec<PathBuf>);

impl CreatedDirectories {
    /// Takes them away again, as far as nothing is in them.
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
    /// There, under this name.
    As { parent: OwnedFd, name: OsString },
    /// What is in it goes into this directory.
    Into { directory: OwnedFd },
}

/// What goes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource<'a> {
    /// What it is called where it comes from; `None` where that has no name of its own, such as `/`.
    pub name: Option<&'a OsStr>,
    /// Of a directory, only what is in it.
    pub contents: bool,
    pub is_directory: bool,
}

impl CopyDestination {
    /// Looks at a path. Links in it are followed, once: it is the user's own.
    ///
    /// # Errors
    /// Where it cannot be one.
    pub fn look(path: &Path) -> Result<CopyDestination> {
        let typed = path.as_os_str().as_bytes();
        let path = if typed.is_empty() { Path::new(".") } else { path };
        let there = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => There::Directory(open(path)?),
            // Replacing it would be no copy, and as root the end of /dev/null.
            Ok(_) if is_special(path) => {
                bail!("{path:?} is a device, FIFO or socket, which nothing replaces")
            }
            Ok(_) => CopyDestination::name_of(path, true)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                CopyDestination::name_of(path, false)?
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look at {path:?}"));
            }
        };
        Ok(CopyDestination { path: path.to_owned(), there })
    }

    /// A directory, which is made, with those above it, if it is not there.
    ///
    /// # Errors
    /// Where it cannot be one.
    pub fn make(path: &Path) -> Result<(CopyDestination, CreatedDirectories)> {
        let missing = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
        let made =
            CreatedDirectories(path.ancestors().take_while(missing).map(Path::to_owned).collect());
        let looked = fs::create_dir_all(path)
            .with_context(|| format!("cannot make the directory {path:?}"))
            .and_then(|()| CopyDestination::look(path));
        match looked {
            Ok(destination) => Ok((destination, made)),
            Err(error) => {
                made.undo();
                Err(error)
            }
        }
    }

    fn name_of(path: &Path, taken: bool) -> Result<There> {
        let name = path.file_name().map(OsStr::to_owned);
        let Some(name) = name.filter(|_| !path.as_os_str().as_bytes().ends_with(b"/.")) else {
            bail!("there is no directory {path:?}");
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let slash = path.as_os_str().as_bytes().ends_with(b"/");
        Ok(There::Name { parent: open(parent)?, name, taken, slash })
    }

    /// As it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that what arrives is kept in until it is complete.
    pub fn directory(&self) -> &OwnedFd {
        match &self.there {
            There::Directory(directory) => directory,
            There::Name { parent, .. } => parent,
        }
    }

    /// Where that goes.
    ///
    /// # Errors
    /// Where it cannot go there.
    pub fn target(&self, cargo: &CopySource<'_>) -> Result<CopyTarget> {
        let path = &self.path;
        let again = |fd: &OwnedFd| fd.try_clone().context("cannot hold the directory");
        match (&self.there, cargo.name) {
            (There::Directory(directory), name) => {
                let whole = !(cargo.is_directory && cargo.contents);
                match (name.filter(|_| whole), cargo.is_directory) {
                    (Some(name), _) => {
                        Ok(CopyTarget::As { parent: again(directory)?, name: name.to_owned() })
                    }
                    (None, true) => Ok(CopyTarget::Into { directory: again(directory)? }),
                    (None, false) => bail!("{path:?} is a directory; name the file in it"),
                }
            }
            (There::Name { taken: true, .. }, _) if cargo.is_directory => {
                bail!("{path:?} is a file, and a directory is copied")
            }
            (There::Name { taken: false, slash: true, .. }, _) if !cargo.is_directory => {
                bail!("there is no directory {path:?}")
            }
            (There::Name { parent, name, .. }, _) => {
                Ok(CopyTarget::As { parent: again(parent)?, name: name.clone() })
            }
        }
    }
}

/// What something is called by the path that leads to it; `None` where that names no entry of a
/// directory, as `/`, `.`, `..` and `dir/.` do not: then only what is in it is meant.
pub fn own_name(path: &OsStr) -> Option<&OsStr> {
    let parts = path.as_bytes().split(|&byte| byte == b'/');
    let last = parts.rev().find(|part| !part.is_empty())?;
    (!matches!(last, b"." | b"..")).then(|| OsStr::from_bytes(last))
}

/// Makes the directories above a path that are not there yet.
///
/// # Errors
/// The file system's.
pub fn make_parents(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {parent:?}"))
        }
        None => Ok(()),
    }
}

/// Whether it is neither a file nor a directory nor a link.
fn is_special(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|there| !(there.is_file() || there.is_dir() || there.is_symlink()))
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(rustix::fs::CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => bail!("there is no directory {path:?}"),
        other => other
            .map_err(std::io::Error::from)
            .with_context(|| format!("cannot open the directory {path:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_ends_in_a_name_has_that() {
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

    /// What [`CopyDestination::target`] makes of it: `name` for something under that, `+` for the contents.
    fn goes(path: &Path, name: Option<&str>, is_directory: bool) -> Result<String> {
        let cargo =
            CopySource { name: name.map(OsStr::new), contents: name.is_none(), is_directory };
        Ok(match CopyDestination::look(path)?.target(&cargo)? {
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
