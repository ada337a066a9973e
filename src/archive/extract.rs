//! Unpacking tar archives that other programs made, compressed or not. Their entries come in any order, and the same name
//! may come again: then the last one counts.
//!
//! An archive ends with two blocks of zeros. GNU tar accepts one, and so does this; but not none, because
//! nothing else tells an archive that was cut off between two files.

use std::io::{self, Read};

use anyhow::{Context, Result, anyhow, bail};
use tar::EntryType;

use super::broken::ArchiveError;
use super::compression::{UnsupportedFormat, decompress};
use super::entry::{EntryKind, TarEntry};
use super::lenient::{MemberReader, TarMember};
use super::name::EntryName;
use super::receive::EntrySink;
use super::tally::CopyTally;
use super::tree::TreeBuilder;

/// Unpacks a whole archive into a tree, whose root it creates. Nothing is unpacked outside of it, and links
/// are not followed.
///
/// # Errors
/// If the archive is damaged, incomplete or hostile; and those of reading it and of the file system.
pub fn extract(input: impl Read, tree: &mut TreeBuilder) -> Result<CopyTally> {
    let (_, mut input) = decompress(input).map_err(|error| {
        // It reaches the user as one line.
        match error.downcast_ref::<UnsupportedFormat>() {
            Some(format) => anyhow!("{format}: {}", format.hint()),
            None => error,
        }
    })?;
    let mut tally = CopyTally::default();
    let mut members = MemberReader::new(&mut input);
    tree.make_root()?;
    while let Some(member) = members.next_member()? {
        let entry = entry_of(&member)?;
        let Some((parent, leaf)) = entry.name.split() else {
            // The root of the archive is the destination, which keeps its mode and time.
            if entry.kind == EntryKind::Directory {
                continue;
            }
            return Err(ArchiveError::name(&member.name, "names no file").into());
        };
        if entry.kind == EntryKind::Directory {
            tree.enter(entry.name.parts())?;
            tree.set_innermost(entry.mode, entry.modified);
            tally.count(&entry.kind);
            continue;
        }
        tree.enter(parent)?;
        match &entry.kind {
            EntryKind::Special => {
                tally.skip(entry.name, &entry.kind);
                continue;
            }
            EntryKind::Link { target } => {
                tree.clear(leaf);
                tree.link(&entry, target)?;
            }
            _ if member.kind == EntryType::Link => {
                let target = EntryName::parse(strip(&member.link))?;
                // A link to itself must not delete its file first.
                if target != entry.name {
                    tree.clear(leaf);
                    tree.hard_link(&entry.name, &target)?;
                }
            }
            _ => {
                tree.clear(leaf);
                tree.write(&entry, &mut members.content(), &member.pieces)?;
            }
        }
        tally.count(&entry.kind);
    }
    if !members.has_end() {
        bail!("the archive ends without a block of zeros, so something is missing");
    }
    // Whatever follows is not part of the archive, but its writer must not get SIGPIPE, and the checksum of
    // compressed data comes last.
    io::copy(&mut input, &mut io::sink()).context("cannot read what follows the archive")?;
    Ok(tally)
}

/// A member as an entry of the tree.
fn entry_of(member: &TarMember) -> Result<TarEntry> {
    let kind = match member.kind {
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => EntryKind::Link { target: member.link.clone() },
        EntryType::Fifo | EntryType::Char | EntryType::Block => EntryKind::Special,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Link => {
            EntryKind::File { size: member.size }
        }
        other => return Err(ArchiveError::kind(&member.name, other.as_byte()).into()),
    };
    let name = EntryName::parse(strip(&member.name))?;
    Ok(TarEntry { name, kind, mode: member.mode & 0o777, modified: member.modified })
}

/// A name without leading slashes: every tar takes it as relative.
fn strip(name: &[u8]) -> &[u8] {
    let slashes = name.iter().take_while(|&&byte| byte == b'/').count();
    &name[slashes..]
}
