//! Tar archives that somebody else made, of whatever kind the `tar` crate reads. Their entries come in
//! any order, and the same name may come again: then the last one counts.
//!
//! An archive ends with two blocks of zeros. GNU tar does with one, and so does this; but not with none,
//! because an archive that was cut off between two files has no other sign of it.

use std::ffi::OsStr;
use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use tar::{Archive, EntryType};

use super::entry::{EntryKind, FileTime, TarEntry};
use super::name::EntryName;
use super::pax;
use super::reader::ArchiveError;
use super::receive::EntrySink;
use super::tally::CopyTally;
use super::tree::TreeBuilder;

/// Takes a whole archive into a tree, whose root it makes. Nothing is unpacked outside of it, and no
/// link on the way followed.
///
/// # Errors
/// What is wrong with the archive, and what the file system says.
pub fn receive_foreign<R: Read>(input: R, tree: &mut TreeBuilder) -> Result<CopyTally> {
    let mut tally = CopyTally::default();
    let mut archive = Archive::new(Input { input, ended: false });
    tree.make_root()?;
    for entry in archive.entries().context("cannot read the archive")? {
        let mut entry = entry.context("cannot read the archive")?;
        let Some((ours, link)) = described(&mut entry)? else { continue };
        let Some((parent, leaf)) = ours.name.split() else { continue };
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            tree.enter(ours.name.parts())?;
            tree.set_innermost(ours.mode, ours.modified);
            tally.count(&ours.kind);
            continue;
        }
        tree.enter(parent)?;
        match (&ours.kind, link) {
            (EntryKind::Special, _) => {
                tally.skip(ours.name.clone(), &ours.kind);
                continue;
            }
            (_, Some(target)) => {
                let target = EntryName::parse(strip(&target))?;
                // A link to itself must not take itself away first.
                if target != ours.name {
                    tree.clear(leaf);
                    tree.hard_link(&ours.name, &target)?;
                }
            }
            (EntryKind::Link { target }, None) => {
                tree.clear(leaf);
                tree.link(&ours, target)?;
            }
            _ => {
                tree.clear(leaf);
                tree.file(&ours, &mut entry)?;
            }
        }
        tally.count(&ours.kind);
    }
    let mut input = archive.into_inner();
    if input.ended {
        bail!("cannot read the archive: it ends without a block of zeros, so something is missing");
    }
    // What follows is none of it, but whoever writes it shall not find nobody there to read.
    io::copy(&mut input, &mut io::sink()).context("cannot read what follows the archive")?;
    Ok(tally)
}

/// An input of which is known whether its own end was reached.
struct Input<R> {
    input: R,
    ended: bool,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

/// An entry as ours, and the target of a hard link; `None` for what is about the archive itself.
fn described<R: Read>(
    entry: &mut tar::Entry<'_, R>,
) -> Result<Option<(TarEntry, Option<Vec<u8>>)>> {
    let mut modified = None;
    if let Some(records) = entry.pax_extensions().context("cannot read the archive")? {
        for record in records.flatten() {
            if record.key_bytes() == b"mtime" {
                modified = Some(pax::read_time(record.value_bytes())?);
            }
        }
    }
    let header = entry.header();
    let target = || entry.link_name_bytes().unwrap_or_default().into_owned();
    let (kind, link) = match header.entry_type() {
        EntryType::Directory => (EntryKind::Directory, None),
        EntryType::Symlink => (EntryKind::Link { target: target() }, None),
        EntryType::Link => (EntryKind::File { size: 0 }, Some(target())),
        EntryType::Fifo | EntryType::Char | EntryType::Block => (EntryKind::Special, None),
        EntryType::XGlobalHeader => return Ok(None),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            (EntryKind::File { size: entry.size() }, None)
        }
        other => {
            let name = OsStr::new(&*String::from_utf8_lossy(&entry.path_bytes())).to_owned();
            return Err(ArchiveError::Kind(name.into_encoded_bytes(), other.as_byte()).into());
        }
    };
    let malformed = |_| ArchiveError::Malformed("a header");
    let modified = match modified {
        Some(time) => time,
        None => FileTime {
            seconds: i64::try_from(header.mtime().map_err(malformed)?).unwrap_or(i64::MAX),
            nanoseconds: 0,
        },
    };
    let name = EntryName::parse(strip(&entry.path_bytes()))?;
    let mode = header.mode().map_err(malformed)? & 0o777;
    Ok(Some((TarEntry { name, kind, mode, modified }, link)))
}

/// A name without the slashes that it begins with, as every tar takes it.
fn strip(name: &[u8]) -> &[u8] {
    let slashes = name.iter().take_while(|&&byte| byte == b'/').count();
    &name[slashes..]
}
