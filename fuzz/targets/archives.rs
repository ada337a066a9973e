//! The two readers of tar archives, and what they unpack.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::allocation::bounded;
use super::check_error;
use super::scratch::FuzzScratch;
use crate::archive::{
    self, ArchiveReader, ArchiveWriter, CompressionFormat, EntryKind, EntryOutput, FileTime,
    MemberReader, TarEntry, TarMember, TreeBuilder, UnpackQuota, UnpackRules, pax, receive,
};

/// What a reader may hold: an extended header of 1 MiB, its parts, and those that hold for all members.
const MEMORY: usize = 24 << 20;

/// The records of pax headers, and their times.
pub fn pax_records(input: &[u8]) {
    bounded((1 << 20) + 64 * input.len(), || {
        if let Ok(records) = pax::records(input) {
            let mut written = Vec::new();
            for (key, value) in &records {
                pax::push(&mut written, key, value);
            }
            assert_eq!(pax::records(&written).as_ref(), Ok(&records));
        }
        if let Err(error) = pax::PaxRecords::default().update(input) {
            check_error(anyhow::Error::new(error));
        }
        if let Ok(time) = pax::read_time(input) {
            assert!(time.nanoseconds < 1_000_000_000);
            assert_eq!(pax::read_time(pax::write_time(time).as_bytes()), Ok(time));
        }
    });
}

/// A copy's stream: what is accepted arrives unchanged when it is written again, and unpacks beneath the tree.
pub fn stream(input: &[u8]) {
    let read = bounded(MEMORY, || entries(input));
    match read {
        Ok(entries) => {
            let mut writer = ArchiveWriter::new(Vec::new());
            for (entry, content) in &entries {
                let written = match entry.kind {
                    EntryKind::File { .. } => writer.file(entry, &mut content.as_slice(), &()),
                    _ => writer.entry(entry),
                };
                written.expect("memory takes everything");
            }
            let written = writer.finish().expect("memory takes everything");
            assert_eq!(self::entries(&written).expect("it was just written"), entries);
        }
        Err(error) => check_error(error),
    }
    let scratch = FuzzScratch::new();
    let quota = 1 << 20;
    let unpacked = bounded(MEMORY, || {
        let mut tree = builder(&scratch.tree());
        let mut reader = ArchiveReader::new(input);
        let received = receive(&mut reader, &mut tree, &mut UnpackQuota::new(quota, 1000), &());
        received.and_then(|_| tree.finish())
    });
    scratch.check();
    assert!(plain_files(&scratch.tree()) <= quota);
    if let Err(error) = unpacked {
        check_error(error);
    }
}

fn entries(input: &[u8]) -> anyhow::Result<Vec<(TarEntry, Vec<u8>)>> {
    let mut reader = ArchiveReader::new(input);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.content().read_to_end(&mut content)?;
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        assert_eq!(content.len() as u64, size);
        assert!(entry.mode & !0o777 == 0);
        check_name(&entry);
        entries.push((entry, content));
    }
    Ok(entries)
}

fn check_name(entry: &TarEntry) {
    for part in entry.name.parts() {
        assert!(!part.is_empty() && part != b"." && part != b".." && !part.contains(&b'/'));
    }
}

/// Any archive: members lie one after another in it, and pieces of a member in order within its size.
pub fn members(input: &[u8]) {
    let read = bounded(MEMORY, || -> anyhow::Result<()> {
        let mut reader = MemberReader::new(input);
        let mut before = 0;
        while let Some(member) = reader.next_member()? {
            let position = reader.position();
            assert!(before < position && position <= input.len() as u64);
            before = position;
            check_pieces(&member);
        }
        Ok(())
    });
    if let Err(error) = read {
        check_error(error);
    }
}

fn check_pieces(member: &TarMember) {
    let mut end = 0;
    for &(offset, length) in &member.pieces {
        assert!(offset >= end, "pieces overlap");
        end = offset.checked_add(length).expect("a piece ends");
    }
    assert!(end <= member.size, "a piece is behind the end of its file");
    assert!(member.mode & !0o7777 == 0);
    assert!(member.modified == FileTime::default() || member.modified.nanoseconds < 1_000_000_000);
}

/// Any archive, unpacked as `cp -` does in a guest. Another target decompresses: a bomb would only fill the disk.
pub fn extract_members(input: &[u8]) {
    if !matches!(CompressionFormat::of(input), Ok(CompressionFormat::None)) {
        return;
    }
    let scratch = FuzzScratch::new();
    let unpacked = bounded(MEMORY, || {
        let mut tree = builder(&scratch.tree());
        archive::extract(input, &mut tree).and_then(|_| tree.finish())
    });
    scratch.check();
    // Content takes at least as many bytes in the archive as in files, except for hard links.
    plain_files(&scratch.tree());
    if let Err(error) = unpacked {
        check_error(error);
    }
}

fn builder(tree: &Path) -> TreeBuilder {
    let top = File::open(tree).expect("the tree exists");
    let rules = UnpackRules { umask: 0o022, links: true };
    TreeBuilder::new(top.into(), rules).expect("an empty directory")
}

/// The bytes in files below a directory, in which there is nothing but files, directories and links without any
/// special permission.
fn plain_files(directory: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let about = path.symlink_metadata().expect("a file");
        let kind = about.file_type();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{path:?} is {kind:?}");
        assert!(kind.is_symlink() || about.mode() & 0o7022 == 0, "{path:?} has a special mode");
        if kind.is_dir() && fs::read_dir(&path).is_ok() {
            bytes += plain_files(&path);
        } else if kind.is_file() {
            bytes += about.len();
        }
    }
    bytes
}
