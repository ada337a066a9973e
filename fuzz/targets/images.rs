//! Images that are imported, and the kernel and modules of those that are built.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use cpio::newc::Reader;
use rustix::fs::{MemfdFlags, memfd_create};

use super::allocation::bounded;
use super::check_error;
use super::scratch::FuzzScratch;
use crate::archive::decompress;
use crate::image::{SilentProgress, initrd, kernel, modules};
use crate::import::UnpackBounds;
use crate::import::blobs::{PackedEntry, PackedFiles};
use crate::import::budget::UnpackBudget;
use crate::import::digest_reader::BlobDigest;
use crate::import::form;
use crate::import::layer::{self, WhiteoutNames};
use crate::import::rootfs::RootfsTree;
use crate::import::select::{self, SelectedImage};
use crate::model::RootfsFormat;

/// What unpacking may write, and how much of a decompressed stream is read: enough to notice a missing limit.
const BOUNDS: UnpackBounds = UnpackBounds { bytes: 8 << 20, entries: 1000 };

/// Layers, one after another in one tree. The first byte says how many, and each has an equal part of the rest.
pub fn layer(input: &[u8]) {
    let Some((&count, rest)) = input.split_first() else { return };
    let count = usize::from(count % 3) + 1;
    let scratch = FuzzScratch::new();
    let applied = bounded(24 << 20, || -> anyhow::Result<()> {
        let mut tree = RootfsTree::open(&scratch.tree(), UnpackBudget::new(BOUNDS))?;
        // In blocks of tar, so that an input of several archives is cut between them.
        let length = (rest.len() / 512).div_ceil(count).max(1) * 512;
        for mut archive in rest.chunks(length).take(count) {
            layer::apply(&mut archive, WhiteoutNames::Whiteouts, &mut tree)?;
        }
        Ok(())
    });
    scratch.check();
    if let Err(error) = applied {
        check_error(error);
    }
}

/// Compressed streams. A decoder may allocate its window, which a limit bounds, and no more.
pub fn compressed(input: &[u8]) {
    let read = bounded(300 << 20, || -> anyhow::Result<u64> {
        let (_, stream) = decompress(input)?;
        Ok(std::io::copy(&mut stream.take(BOUNDS.bytes), &mut std::io::sink())?)
    });
    if let Err(error) = read {
        check_error(error);
    }
}

/// Index, manifest and configuration, or the manifest of `docker save`. The documents are separated by bytes of
/// zero; the first is the index, and `@1`, `@2` in one are the digits of the following ones.
pub fn layout(input: &[u8]) {
    let (packed, _kept) = packed(input);
    for wanted in [None, Some("a:1"), Some("")] {
        let selected = bounded((8 << 20) + 64 * input.len(), || {
            [select::from_layout(&packed, wanted), select::from_docker(&packed, wanted)]
        });
        for selected in selected {
            match selected {
                Ok(image) => check_image(&image, wanted),
                Err(error) => check_error(error),
            }
        }
    }
}

fn check_image(image: &SelectedImage, wanted: Option<&str>) {
    assert!(!image.layers.is_empty());
    assert_eq!(image.command.problem(), None);
    if let (Some(wanted), Some(reference)) = (wanted, &image.reference) {
        assert!(reference == wanted || image.digest.to_string() == wanted);
    }
}

fn packed(input: &[u8]) -> (PackedFiles, Vec<Vec<u8>>) {
    let mut documents: Vec<Vec<u8>> =
        input.split(|&byte| byte == 0).take(8).map(<[u8]>::to_vec).collect();
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory"));
    let mut files = HashMap::new();
    let mut offset = 0;
    for number in (0..documents.len()).rev() {
        let digest = BlobDigest::sha256(&documents[number]);
        let size = documents[number].len() as u64;
        file.write_all(&documents[number]).expect("memory takes everything");
        let entry = PackedEntry::File { offset, size };
        offset += size;
        files.insert(PathBuf::from(digest.blob()), entry.clone());
        if number == 0 {
            files.insert(PathBuf::from("index.json"), entry.clone());
            files.insert(PathBuf::from("manifest.json"), entry);
        }
        let mark = format!("@{number}");
        let digits = digest.blob().replace("blobs/sha256/", "");
        for earlier in &mut documents[..number] {
            *earlier = replaced(earlier, mark.as_bytes(), digits.as_bytes());
        }
    }
    (PackedFiles::Archive(file, files), documents)
}

fn replaced(text: &[u8], mark: &[u8], by: &[u8]) -> Vec<u8> {
    let mut new = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(mark) {
            new.extend(by);
            rest = after;
        } else {
            new.push(rest[0]);
            rest = &rest[1..];
        }
    }
    new
}

/// Any archive: whether it is an image is decided by its content, and its files lie within it.
pub fn archive(input: &[u8]) {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(input).expect("memory takes everything");
    let looked = bounded(24 << 20, || -> anyhow::Result<()> {
        let Some(packed) = PackedFiles::archive(file, &SilentProgress)? else { return Ok(()) };
        if let PackedFiles::Archive(_, files) = &packed {
            for entry in files.values() {
                let PackedEntry::File { offset, size } = entry else { continue };
                assert!(offset + size <= input.len() as u64);
            }
        }
        match form::of(&packed)? {
            Some(RootfsFormat::Oci) => select::from_layout(&packed, None).map(drop),
            Some(RootfsFormat::Docker) => select::from_docker(&packed, None).map(drop),
            _ => Ok(()),
        }
    });
    if let Err(error) = looked {
        check_error(error);
    }
}

/// A kernel image. Its unpacked size is a claim.
pub fn kernel_image(input: &[u8]) {
    // A block of lz4 unpacks to 8 MiB, and the window of xz takes up to 64 MiB.
    match bounded((100 << 20) + 300 * input.len(), || kernel::unpack(input)) {
        Ok(unpacked) => assert!(unpacked.starts_with(b"\x7fELF")),
        Err(error) => check_error(error),
    }
}

/// `modules.dep` and `modules.builtin`, separated by a byte of zero; and any content in an initrd.
pub fn initrd_modules(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (dep, builtin) = text.split_once('\0').unwrap_or((&text, ""));
    match modules::load_order(dep, builtin, &modules::NEEDED) {
        Ok(order) => {
            let mut once = order.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), order.len(), "a module is loaded twice");
        }
        Err(error) => check_error(error),
    }
    let archive = initrd::agent_archive(input).expect("an agent of any bytes");
    assert!(archive.len().is_multiple_of(4));
    let mut reader = Reader::new(archive.as_slice()).expect("it was just written");
    let mut content = Vec::new();
    reader.read_to_end(&mut content).expect("it was just written");
    assert!(reader.entry().name() == "init" && content == input);
}
