//! Digests of an image's files.
//!
//! A file system image is mostly holes, and reading gigabytes of zeros would take longer than booting
//! from it. Its digest is the SHA-256 of each block of 64 KiB that is not all zeros, preceded by its
//! offset as eight bytes in little-endian order, and at the end of the file's length in the same form.
//! Holes and written zeros make no difference.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::host::sparse;

const BLOCK: u64 = 1 << 16;

/// How a file's digest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestMethod {
    /// Plain SHA-256, what `sha256sum` prints.
    Whole,
    /// SHA-256 of the blocks that are not all zeros.
    NonZero,
}

/// The digest of bytes, as [`of_file`] takes it with [`DigestMethod::Whole`].
pub fn of_bytes(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The digest of a file: the method's name, a colon, hexadecimal digits.
pub fn of_file(file: &File, method: DigestMethod) -> Result<String> {
    match method {
        DigestMethod::Whole => whole(file),
        DigestMethod::NonZero => non_zero(file),
    }
    .context("cannot read the file")
}

fn whole(file: &File) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = buffer();
    let mut position = 0;
    loop {
        match file.read_at(&mut buffer, position)? {
            0 => return Ok(format!("sha256:{}", hex(&hash.finalize()))),
            count => {
                hash.update(&buffer[..count]);
                position += count as u64;
            }
        }
    }
}

fn non_zero(file: &File) -> Result<String> {
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut buffer = buffer();
    let mut next = 0;
    sparse::for_each_extent(file, &mut |start, end| {
        // An extent may begin in the block in which the last one ended.
        let mut offset = (start / BLOCK * BLOCK).max(next);
        while offset < end {
            let size = usize::try_from(BLOCK.min(length - offset))?;
            let block = &mut buffer[..size];
            file.read_exact_at(block, offset)?;
            if block.iter().any(|&byte| byte != 0) {
                hash.update(offset.to_le_bytes());
                hash.update(block);
            }
            offset += BLOCK;
        }
        next = offset;
        Ok(())
    })?;
    hash.update(length.to_le_bytes());
    Ok(format!("sha256-nonzero:{}", hex(&hash.finalize())))
}

fn buffer() -> Vec<u8> {
    vec![0; usize::try_from(BLOCK).expect("64 KiB fit")]
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn sparse_file(length: u64, content: &[(u64, &[u8])]) -> File {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(length).unwrap();
        for &(at, bytes) in content {
            file.write_all_at(bytes, at).unwrap();
        }
        file
    }

    #[test]
    fn the_whole_digest_is_what_sha256sum_prints() {
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), expected);
        assert_eq!(
            of_file(&sparse_file(0, &[(0, b"abc")]), DigestMethod::Whole).unwrap(),
            expected
        );
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_nothing_else_is() {
        let digest = |length, content: &[(u64, &[u8])]| {
            of_file(&sparse_file(length, content), DigestMethod::NonZero).unwrap()
        };
        let zeros = vec![0; 200_000];
        let plain = digest(10 << 20, &[(5 << 20, b"x")]);
        assert_eq!(plain, digest(10 << 20, &[(1 << 20, &zeros), (5 << 20, b"x")]));
        assert_eq!(plain, digest(10 << 20, &[((5 << 20) - 100_000, &zeros), (5 << 20, b"x")]));
        assert_ne!(plain, digest(10 << 20, &[((5 << 20) + 1, b"x")]));
        assert_ne!(plain, digest(10 << 20, &[((5 << 20) + 65536, b"x")]));
        assert_ne!(plain, digest(10 << 20, &[(5 << 20, b"y")]));
        assert_ne!(plain, digest((10 << 20) + 1, &[(5 << 20, b"x")]));
        assert_ne!(digest(10 << 20, &[]), digest(11 << 20, &[]));
        // Several extents in one block, and data in a last block that is not whole.
        let scattered: &[(u64, &[u8])] = &[(0, b"a"), (9000, b"b"), (40000, b"c"), (99_999, b"d")];
        assert_eq!(
            digest(100_000, scattered),
            digest(100_000, &[&[(60_000, &zeros[..9])], scattered].concat())
        );
    }
}
