//! A tar archive put into a tree: a whole root file system, or one of the layers that make one.
//!
//! A layer says what it adds to those below it, and by names that begin with `.wh.` what it takes away
//! (OCI image specification, layer.md).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use tar::EntryType;

use super::blobs::cut_short;
use super::path::{place, shown};
use super::rootfs::{EntryAttributes, RootfsEntry, RootfsTree};
use crate::archive::{MemberReader, TarMember};
use crate::model::{Refusal, RefusalKind};

/// Begins the name of what a layer takes away.
const WHITEOUT: &[u8] = b".wh.";
/// Begins names that a driver of the past kept for itself.
const RESERVED: &[u8] = b".wh..wh.";
/// Takes away everything in its directory that lower layers have put there.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Extended attributes that are kept: those that mean something to the guest. SELinux labels and what
/// overlayfs noted for itself do not.
const KEPT: [&[u8]; 4] =
    [b"security.capability", b"user.", b"system.posix_acl_access", b"system.posix_acl_default"];

/// What was left out, and why nobody misses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SkippedEntries {
    /// Device files: a guest's own are in its `/dev`.
    pub devices: u64,
}

/// How names that begin with `.wh.` are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutNames {
    /// As the names of files.
    Plain,
    /// As what a layer takes away.
    Whiteouts,
}

/// Puts an archive into `tree`. `heard` is called now and then.
///
/// Errors: `Usage` for archives that are damaged or mean harm.
pub fn apply(
    archive: impl Read,
    names: WhiteoutNames,
    tree: &mut RootfsTree,
    left_out: &mut SkippedEntries,
    heard: &mut dyn FnMut(),
) -> Result<()> {
    let mut members = MemberReader::new(archive);
    let mut layer = Layer { tree, own: HashSet::new() };
    while let Some(member) = members.next_member()? {
        heard();
        let place = place(&member.name)?;
        match whiteout(&place).filter(|_| names == WhiteoutNames::Whiteouts) {
            Some(Whiteout::Nothing) => {}
            Some(Whiteout::Opaque(directory)) => layer.clear(&directory)?,
            Some(Whiteout::Of(gone)) => layer.take_away(&gone)?,
            None => layer.put(&mut members, &member, place, names, left_out)?,
        }
    }
    // The digests of a layer say whether anything is missing.
    if names == WhiteoutNames::Plain && !members.has_end() {
        bail!(cut_short());
    }
    layer.tree.settle_times()
}

enum Whiteout {
    Of(PathBuf),
    Opaque(PathBuf),
    Nothing,
}

fn whiteout(place: &Path) -> Option<Whiteout> {
    let (directory, name) = (place.parent()?, place.file_name()?.as_bytes());
    let gone = name.strip_prefix(WHITEOUT)?;
    Some(match name {
        OPAQUE => Whiteout::Opaque(directory.to_owned()),
        _ if name.starts_with(RESERVED) => Whiteout::Nothing,
        // No name, or none of a file: it takes away nothing.
        _ if [&b""[..], b".", b".."].contains(&gone) => Whiteout::Nothing,
        _ => Whiteout::Of(directory.join(OsStr::from_bytes(gone))),
    })
}

struct Layer<'a> {
    tree: &'a mut RootfsTree,
    /// What this layer itself has put in place, with the directories on the way. A whiteout is about
    /// the layers below, wherever in the archive it stands.
    own: HashSet<PathBuf>,
}

impl Layer<'_> {
    fn put<R: Read>(
        &mut self,
        members: &mut MemberReader<R>,
        member: &TarMember,
        place: PathBuf,
        names: WhiteoutNames,
        left_out: &mut SkippedEntries,
    ) -> Result<()> {
        let attributes = attributes(member)?;
        let link = OsStr::from_bytes(&member.link);
        let mut content = members.content();
        let entry = match member.kind {
            EntryType::Directory => RootfsEntry::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                RootfsEntry::File {
                    content: &mut content,
                    size: member.size,
                    pieces: &member.pieces,
                }
            }
            EntryType::Symlink => RootfsEntry::Link(link),
            EntryType::Link => RootfsEntry::Same(super::path::place(&member.link)?),
            EntryType::Fifo => RootfsEntry::Fifo,
            EntryType::Char | EntryType::Block => {
                self.tree.budget.take(0)?;
                left_out.devices += 1;
                return Ok(());
            }
            other => bail!(Refusal::new(
                RefusalKind::Usage,
                format!("{} is of a kind that is not known ({other:?})", shown(&member.name))
            )),
        };
        self.tree.put(&place, entry, &attributes)?;
        if names == WhiteoutNames::Whiteouts {
            for known in place.ancestors() {
                if !self.own.insert(known.to_owned()) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Deletes what lower layers have put at `gone`.
    fn take_away(&mut self, gone: &Path) -> Result<()> {
        match self.own.contains(gone) {
            false => self.tree.remove(gone),
            true => self.clear(gone),
        }
    }

    /// Deletes what lower layers have put into a directory.
    fn clear(&mut self, directory: &Path) -> Result<()> {
        // What a link leads to is another directory's content.
        if self.tree.kind(directory)? != Some(FileType::Directory) {
            return Ok(());
        }
        for name in self.tree.names(directory)? {
            self.take_away(&directory.join(name))?;
        }
        Ok(())
    }
}

fn attributes(member: &TarMember) -> Result<EntryAttributes> {
    let id = |id: u64| {
        u32::try_from(id)
            .ok()
            .filter(|&id| id != u32::MAX)
            .with_context(|| format!("{} belongs to {id}, which no user is", shown(&member.name)))
    };
    Ok(EntryAttributes {
        mode: member.mode,
        uid: id(member.uid)?,
        gid: id(member.gid)?,
        mtime: member.modified.seconds,
        extended: member
            .attributes
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (OsString::from_vec(name.clone()), value.clone()))
            .collect(),
    })
}

/// Whether an extended attribute is.
pub fn is_kept(name: &[u8]) -> bool {
    // A null would end the name early.
    !name.contains(&0)
        && KEPT.iter().any(|kept| match kept.ends_with(b".") {
            true => name.starts_with(kept),
            false => name == *kept,
        })
}
