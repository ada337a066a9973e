//! Which files of a tree git does not ignore.
//!
//! In a repository, git itself says so: a tracked file is never ignored, whatever the patterns say. The repository may
//! be a stranger's, so git is run such that nothing the repository configures is executed, and what it lists is
//! checked. Elsewhere the patterns of ignore files decide.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::PackSource;
use crate::host::tool::{ToolFailure, ToolInterrupted, ToolRun};
use crate::host::which::HostTool;

const GIT: HostTool = HostTool { program: "git", package: "git" };

/// Settings that keep git from executing what a repository names, and from refusing one of another user for fear of
/// that.
const HARMLESS: [&str; 6] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "safe.directory=*",
];

/// How deep repositories in repositories are searched.
const MAX_NESTED: usize = 20;

/// The paths to send, each directory before its contents.
///
/// # Errors
/// `Host` if there is a repository, but git is not installed; git's own; those of `check`, which says
/// whether to give up.
pub fn unignored(source: &PackSource<'_>, check: &dyn Fn() -> Result<()>) -> Result<Vec<PathBuf>> {
    if !source.is_directory()? {
        return Ok(vec![source.path.to_owned()]);
    }
    let whole = fs::canonicalize(source.path)
        .with_context(|| format!("cannot look at {:?}", source.path))?;
    let in_repository = whole.ancestors().any(|above| above.join(".git").exists());
    if in_repository {
        let mut listing =
            GitListing { top: source.path, check, found: BTreeSet::new(), real: HashMap::new() };
        if listing.add(Path::new(""), 0)? {
            let below = listing.found.into_iter().map(|path| source.path.join(path));
            return Ok(std::iter::once(source.path.to_owned()).chain(below).collect());
        }
    }
    source.matching(in_repository).map(|path| check().and(path)).collect()
}

/// What git lists in a directory.
struct GitListing<'a> {
    top: &'a Path,
    check: &'a dyn Fn() -> Result<()>,
    /// Paths below `top`, with the directories on the way to them.
    found: BTreeSet<PathBuf>,
    /// Which paths below `top` are directories, and not links to some.
    real: HashMap<PathBuf, bool>,
}

impl GitListing<'_> {
    /// Adds the files in `directory`. False if it is in no repository.
    fn add(&mut self, directory: &Path, nested: usize) -> Result<bool> {
        if nested > MAX_NESTED {
            bail!("{:?} is a repository in too many others", self.top.join(directory));
        }
        let Some(listed) = ls_files(&self.top.join(directory), self.check)? else {
            return Ok(false);
        };
        for name in listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let path = directory.join(Path::new(OsStr::from_bytes(name)));
            // An index can contain anything, and a directory may have been replaced by a link since.
            let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !is_inside || !path.parent().is_none_or(|parent| self.is_directory(parent)) {
                continue;
            }
            self.found.extend(
                path.ancestors().filter(|above| !above.as_os_str().is_empty()).map(Path::to_owned),
            );
            // Another repository, or a submodule.
            if self.is_directory(&path) && self.top.join(&path).join(".git").exists() {
                self.add(&path, nested + 1)?;
            }
        }
        let own = self.top.join(directory).join(".git");
        if own.symlink_metadata().is_ok() {
            for path in (PackSource { path: &own, follow: false }).everything() {
                (self.check)()?;
                self.found.insert(path?.strip_prefix(self.top)?.to_owned());
            }
        }
        Ok(true)
    }

    fn is_directory(&mut self, path: &Path) -> bool {
        let Some(parent) = path.parent() else { return true };
        if let Some(&known) = self.real.get(path) {
            return known;
        }
        let is_real = self.is_directory(parent)
            && self.top.join(path).symlink_metadata().is_ok_and(|about| about.is_dir());
        self.real.insert(path.to_owned(), is_real);
        is_real
    }
}

/// The files in a directory that are tracked or not ignored, each followed by a null byte; `None` if it is in no
/// repository.
fn ls_files(directory: &Path, check: &dyn Fn() -> Result<()>) -> Result<Option<Vec<u8>>> {
    let mut git = ToolRun::new(&GIT.find()?)
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .current_dir(directory);
    if let Some(settings) = std::env::var_os("XDG_CONFIG_HOME") {
        git = git.env("XDG_CONFIG_HOME", settings);
    }
    for setting in HARMLESS {
        git = git.args(["-c", setting]);
    }
    let listed = git
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .read(&|| check().is_err());
    match listed {
        Ok(listed) => Ok(Some(listed)),
        Err(error) if error.is::<ToolInterrupted>() => Err(check().err().unwrap_or(error)),
        Err(error) => match error.downcast_ref::<ToolFailure>() {
            Some(failure)
                if failure.tail_contains("not a git repository")
                    || failure.tail_contains("must be run in a work tree") =>
            {
                Ok(None)
            }
            _ => Err(error.context(format!("cannot list the files in {directory:?}"))),
        },
    }
}
