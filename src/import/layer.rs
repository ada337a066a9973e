//! Unpacking a tar archive into a tree: a whole root file system, or one of its layers.
//!
//! A layer adds files to those below it, and deletes files by names that begin with `.wh.` (OCI image
//! specification, layer.md).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use tar::EntryType;

use super::attributes::{EntryAttributes, is_kept};
use super::blobs::cut_short;
use super::path::{place, shown};
use super::rootfs::{RootfsEntry, RootfsTree};
use crate::archive::{MemberReader, TarMember};
use crate::model::Refusal;

/// Begins the name of a file that a layer deletes.
const WHITEOUT: &[u8] = b".wh.";
/// Begins names that AUFS, a former storage driver of Docker, kept for itself.
const RESERVED: &[u8] = b".wh..wh.";
/// Deletes everything that lower layers have put into its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutNames {
    /// Files of that name.
    Plain,
    /// Files that a layer deletes.
    Whiteouts,
}

/// Unpacks an archive into `tree`.
///
/// # Errors
/// `Usage` for archives that are damaged or hostile, and those of [`RootfsTree::put`].
pub fn apply(archive: &mut dyn Read, names: WhiteoutNames, tree: &mut RootfsTree) -> Result<()> {
    let mut members = MemberReader::new(archive);
    let mut layer = Layer { tree, own: HashSet::new() };
    while let Some(member) = members.next_member()? {
        let place = place(&member.name)?;
        match whiteout(&place).filter(|_| names == WhiteoutNames::Whiteouts) {
            Some(Whiteout::Nothing) => {}
            Some(Whiteout::Opaque(directory)) => layer.clear(&directory)?,
            Some(Whiteout::Of(gone)) => layer.delete(&gone)?,
            None => layer.put(&mut members, &member, place, names)?,
        }
    }
    // The digests of a layer tell whether anything is missing.
    if names == WhiteoutNames::Plain && !members.has_end() {
        bail!(cut_short());
    }
    layer.tree.set_directory_times()
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
        // Not the name of a file, so it deletes nothing.
        _ if [&b""[..], b".", b".."].contains(&gone) => Whiteout::Nothing,
        _ => Whiteout::Of(directory.join(OsStr::from_bytes(gone))),
    })
}

struct Layer<'a> {
    tree: &'a mut RootfsTree,
    /// What this layer itself has created, with the parents. A whiteout applies to the layers below,
    /// wherever it is in the archive.
    own: HashSet<PathBuf>,
}

impl Layer<'_> {
    fn put<R: Read>(
        &mut self,
        members: &mut MemberReader<R>,
        member: &TarMember,
        place: PathBuf,
        names: WhiteoutNames,
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
                self.tree.budget.take(1, 0)?;
                self.tree.devices += 1;
                return Ok(());
            }
            other => bail!(Refusal::usage(format!(
                "{} has an unknown type ({other:?})",
                shown(&member.name)
            ))),
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
    fn delete(&mut self, gone: &Path) -> Result<()> {
        if self.own.contains(gone) { self.clear(gone) } else { self.tree.remove(gone) }
    }

    /// Deletes what lower layers have put into a directory.
    fn clear(&mut self, directory: &Path) -> Result<()> {
        // A link leads to the contents of another directory.
        if self.tree.kind(directory)? != Some(FileType::Directory) {
            return Ok(());
        }
        for name in self.tree.names(directory)? {
            self.delete(&directory.join(name))?;
        }
        Ok(())
    }
}

fn attributes(member: &TarMember) -> Result<EntryAttributes> {
    let id = |id: u64| {
        u32::try_from(id).ok().filter(|&id| id != u32::MAX).with_context(|| {
            format!("{} belongs to {id}, which is not a valid user or group", shown(&member.name))
        })
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
