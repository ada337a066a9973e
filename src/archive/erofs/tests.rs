//! An image that is read again, by the rules of the kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::layout::{BLOCK, INODE, SUPERBLOCK_AT};
use super::*;
use crate::archive::{EntryName, FileTime, PackSource};

/// Mode, links, seconds, nanoseconds, content or target.
type Found = (u16, u32, i64, u32, Vec<u8>);

struct Reader(Vec<u8>);

impl Reader {
    fn number<const WIDTH: usize>(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..WIDTH].copy_from_slice(&self.0[at..at + WIDTH]);
        u64::from_le_bytes(bytes)
    }

    fn superblock<const WIDTH: usize>(&self, at: usize) -> u64 {
        self.number::<WIDTH>(SUPERBLOCK_AT as usize + at)
    }

    fn read(&self) -> BTreeMap<Vec<u8>, Found> {
        assert_eq!((self.superblock::<4>(0), self.superblock::<1>(12)), (0xe0f5_e1e2, 12));
        let mut found = BTreeMap::new();
        let root = self.superblock::<2>(14);
        self.visit(root, root, Vec::new(), &mut found);
        assert_eq!(self.superblock::<8>(16), found.len() as u64);
        found
    }

    fn visit(&self, number: u64, parent: u64, path: Vec<u8>, found: &mut BTreeMap<Vec<u8>, Found>) {
        let at = self.superblock::<4>(40) as usize * BLOCK + number as usize * 32;
        assert_eq!((at % INODE, self.number::<2>(at)), (0, 1));
        let mode = self.number::<2>(at + 4) as u16;
        let from = self.number::<4>(at + 16) as usize * BLOCK;
        let content = self.0[from..from + self.number::<8>(at + 8) as usize].to_vec();
        if mode & 0o170_000 == 0o040_000 {
            let mut last = Vec::new();
            for block in content.chunks(BLOCK) {
                let start = |entry: usize| {
                    usize::from(u16::from_le_bytes([block[entry * 12 + 8], block[entry * 12 + 9]]))
                };
                let count = start(0) / 12;
                for entry in 0..count {
                    let end = if entry + 1 < count { start(entry + 1) } else { block.len() };
                    let name = block[start(entry)..end].split(|byte| *byte == 0).next().unwrap();
                    assert!(name > &*last, "names are sorted");
                    last = name.to_vec();
                    let inner = u64::from_le_bytes(block[entry * 12..][..8].try_into().unwrap());
                    match name {
                        b"." => assert_eq!(inner, number),
                        b".." => assert_eq!(inner, parent),
                        _ => self.visit(inner, number, [&path, name].join(&b'/'), found),
                    }
                }
            }
        }
        let content = if mode & 0o170_000 == 0o040_000 { Vec::new() } else { content };
        let (links, seconds) = (self.number::<4>(at + 44) as u32, self.number::<8>(at + 32) as i64);
        let nanoseconds = self.number::<4>(at + 40) as u32;
        assert!(found.insert(path, (mode, links, seconds, nanoseconds, content)).is_none());
    }
}

fn image_of(root: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let source = PackSource { path: root, follow: false };
    let file = tempfile::tempfile().unwrap();
    let mut image = ErofsImage::new(&file, limit, &|| Ok(()));
    source
        .pack(source.everything(), &mut image, &())
        .map_err(|error| error.downcast::<io::Error>().unwrap())?;
    image.finish()?;
    let mut bytes = vec![0; file.metadata()?.len().next_multiple_of(BLOCK as u64) as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[test]
fn a_tree_is_in_its_image_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("many/inner")).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("many/{number}{}", "x".repeat(number % 200))), [7; 9]).unwrap();
    }
    fs::write(root.join("large"), [vec![1; 3 << 20], vec![0; 2 << 20], b"end".to_vec()].concat())
        .unwrap();
    fs::write(root.join("none"), "").unwrap();
    symlink("many/inner", root.join("link")).unwrap();
    let expected: BTreeMap<Vec<u8>, Found> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| {
            let path = entry.unwrap().into_path();
            let about = path.symlink_metadata().unwrap();
            let content = if about.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap_or_default()
            };
            // Some file systems count no directories.
            let links = match path.strip_prefix(root).unwrap().to_str().unwrap() {
                "" | "many" => 3,
                "many/inner" => 2,
                _ => 1,
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes();
            let name = if name.is_empty() { Vec::new() } else { [b"/", name].concat() };
            // Links have no permissions of their own.
            let mode = about.mode() as u16;
            (name, (mode, links, about.mtime(), about.mtime_nsec() as u32, content))
        })
        .collect();
    let found = Reader(image_of(root, 1 << 30).unwrap()).read();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in &expected {
        assert!(&found[name] == expected, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn zeros_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("holes")).unwrap().set_len(64 << 20).unwrap();
    let source = PackSource { path: dir.path(), follow: false };
    let file = tempfile::tempfile().unwrap();
    let mut image = ErofsImage::new(&file, 1 << 30, &|| Ok(()));
    source.pack(source.everything(), &mut image, &()).unwrap();
    image.finish().unwrap();
    let about = file.metadata().unwrap();
    assert!(about.len() > 64 << 20 && about.blocks() < 2048, "{about:?}");
}

#[test]
fn what_is_too_large_or_cancelled_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![1; 5 << 20]).unwrap();
    assert_eq!(image_of(dir.path(), 4 << 20).unwrap_err().kind(), ErrorKind::FileTooLarge);
    // The file fits, but not what describes it.
    assert_eq!(image_of(dir.path(), (5 << 20) + 4096).unwrap_err().kind(), ErrorKind::FileTooLarge);
    let file = tempfile::tempfile().unwrap();
    let cancelled = || Err(ErrorKind::Interrupted.into());
    assert!(ErofsImage::new(&file, 1 << 30, &cancelled).finish().is_err());
}

#[test]
fn entries_that_make_no_tree_are_refused() {
    let file = tempfile::tempfile().unwrap();
    let check = || Ok(());
    let entry = |name: &[u8], kind| TarEntry {
        name: EntryName::parse(name).unwrap(),
        kind,
        mode: 0o755,
        modified: FileTime::default(),
    };
    let link = || EntryKind::Link { target: b"x".to_vec() };
    let mut image = ErofsImage::new(&file, 1 << 30, &check);
    assert!(image.entry(&entry(b"a/b", link())).is_err());
    image.entry(&entry(b".", EntryKind::Directory)).unwrap();
    assert!(image.entry(&entry(b".", EntryKind::Directory)).is_err());
    image.entry(&entry(b"a", link())).unwrap();
    image.entry(&entry(b"a", link())).unwrap();
    assert!(image.finish().unwrap_err().to_string().contains("twice"));
    let mut image = ErofsImage::new(&file, 1 << 30, &check);
    image.entry(&entry(b".", link())).unwrap();
    assert!(image.finish().is_err());
}
