//! The kernel, unpacked: Debian ships a bzImage, whose real-mode header holds a compressed ELF file.
//! VMMs boot the ELF file sooner, and Firecracker boots nothing else.
//!
//! The layout is that of the Linux x86 boot protocol (Documentation/arch/x86/boot.rst): the fields
//! below are at fixed offsets, the payload's own offset counts from the end of the setup sectors.

use std::io::Read;

use anyhow::{Context, Result};
use lz4_flex::frame::FrameDecoder;

use crate::model::{Kind, Refusal};

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The first version of the boot protocol whose header says where the payload is.
const FIRST_VERSION_WITH_PAYLOAD: u16 = 0x0208;

/// No kernel is larger unpacked; Debian's is 53 MB. Keeps a hostile file from filling the memory.
const MAX_UNPACKED: usize = 512 << 20;

/// Unpacks the ELF file in a bzImage. An ELF file is returned as it is.
///
/// Errors: `Host` for what is not a kernel, is damaged, or is compressed in a way that cannot be
/// unpacked here (only lz4, Debian's choice for its cloud kernel, can).
pub fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    if image.starts_with(b"\x7fELF") {
        return Ok(image.to_vec());
    }
    let payload = payload(image)?;
    let unpacked = match compression(payload) {
        Some("lz4") => unpack_lz4(payload)?,
        Some(other) => {
            return Err(refusal(format!("the kernel is compressed with {other}, not with lz4"))
                .hint("name a suite whose cloud kernel is lz4-compressed, such as bookworm")
                .into());
        }
        None => return Err(refusal("the kernel's compression is unknown").into()),
    };
    if !unpacked.starts_with(b"\x7fELF") {
        return Err(refusal("what is in the kernel image is not an ELF file").into());
    }
    Ok(unpacked)
}

fn payload(image: &[u8]) -> Result<&[u8], Refusal> {
    let u16_at = |at: usize| {
        image.get(at..at + 2).map(|bytes| u16::from_le_bytes(bytes.try_into().expect("two bytes")))
    };
    let u32_at = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().expect("four bytes");
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let is_kernel = u16_at(BOOT_FLAG) == Some(0xaa55)
        && image.get(HEADER_MAGIC..HEADER_MAGIC + 4) == Some(b"HdrS");
    if !is_kernel {
        return Err(refusal("the file is not a Linux kernel image"));
    }
    if u16_at(VERSION).is_none_or(|version| version < FIRST_VERSION_WITH_PAYLOAD) {
        return Err(refusal("the kernel image is too old to say where its payload is"));
    }
    let find = || {
        // Zero means four, for the sake of very old kernels.
        let sectors = match image.get(SETUP_SECTS)? {
            0 => 4,
            &sectors => usize::from(sectors),
        };
        let start = (sectors + 1) * 512 + u32_at(PAYLOAD_OFFSET)?;
        image.get(start..start.checked_add(u32_at(PAYLOAD_LENGTH)?)?)
    };
    find().ok_or_else(|| refusal("the kernel image ends before its payload does"))
}

fn compression(payload: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 7] = [
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"\x5d\0\0", "lzma"),
        (b"\x89LZO", "lzo"),
    ];
    MAGICS.iter().find(|(magic, _)| payload.starts_with(magic)).map(|&(_, name)| name)
}

fn unpack_lz4(payload: &[u8]) -> Result<Vec<u8>> {
    // A legacy frame has no end mark: the kernel's build appends the unpacked size, which a decoder
    // would take for the length of another block.
    let (frame, size) = payload.split_last_chunk::<4>().context("the payload is too short")?;
    let size = usize::try_from(u32::from_le_bytes(*size))?;
    if size > MAX_UNPACKED {
        return Err(refusal(format!("the kernel claims to be {size} bytes long")).into());
    }
    let mut unpacked = Vec::with_capacity(size);
    // One byte more than promised, to notice when there is more.
    let limit = u64::try_from(size)? + 1;
    FrameDecoder::new(frame)
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(|error| refusal(format!("the kernel cannot be unpacked: {error}")))?;
    if unpacked.len() != size {
        return Err(refusal("the kernel is not as long as it says").into());
    }
    Ok(unpacked)
}

fn refusal(message: impl Into<String>) -> Refusal {
    Refusal::new(Kind::Host, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let (sectors, offset) = (3u8, 0x2cc);
        let mut image = vec![0; (usize::from(sectors) + 1) * 512 + offset];
        image[SETUP_SECTS] = sectors;
        image[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        let field = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&field(offset));
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&field(payload.len()));
        image.extend_from_slice(payload);
        image.extend_from_slice(b"what follows the payload");
        image
    }

    /// A legacy frame: the magic number, then blocks of 8 MiB with their compressed lengths.
    fn lz4(content: &[u8], size: usize) -> Vec<u8> {
        let field = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut payload = b"\x02\x21\x4c\x18".to_vec();
        for block in content.chunks(8 << 20) {
            let compressed = lz4_flex::block::compress(block);
            payload.extend(field(compressed.len()));
            payload.extend(compressed);
        }
        payload.extend(field(size));
        payload
    }

    /// More than one block of a legacy frame, which are 8 MiB.
    fn vmlinux() -> Vec<u8> {
        let mut content = b"\x7fELF".to_vec();
        content.extend((0u32..5_000_000).flat_map(|n| (n / 100).to_le_bytes()));
        content
    }

    #[test]
    fn finds_and_unpacks_the_payload() {
        let content = vmlinux();
        let image = bzimage(&lz4(&content, content.len()));
        assert!(unpack(&image).unwrap() == content);
        assert!(unpack(&content).unwrap() == content);
    }

    #[test]
    fn refuses_what_it_cannot_unpack_and_says_why() {
        let content = b"\x7fELF and so on".as_slice();
        let mut cut = bzimage(&lz4(content, content.len()));
        cut.truncate(cut.len() - 30);
        let mut old = bzimage(&lz4(content, content.len()));
        old[VERSION] = 0x07;
        let mut beyond = bzimage(b"x");
        beyond[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&[0xff; 4]);
        beyond[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&[0xff; 4]);
        let cases = [
            (b"MZ".to_vec(), "not a Linux kernel"),
            (vec![0; 4096], "not a Linux kernel"),
            (old, "too old"),
            (cut, "ends before its payload"),
            (beyond, "ends before its payload"),
            (bzimage(b"\x1f\x8b\x08rest"), "compressed with gzip"),
            (bzimage(b"\x28\xb5\x2f\xfdrest"), "compressed with zstd"),
            (bzimage(b"\xfd7zXZ\0rest"), "compressed with xz"),
            (bzimage(b"????????"), "compression is unknown"),
            (bzimage(b""), "compression is unknown"),
            (bzimage(&lz4(content, content.len() + 1)), "not as long as it says"),
            (bzimage(&lz4(content, content.len() - 1)), "not as long as it says"),
            (bzimage(&lz4(content, 0xffff_ffff)), "claims to be"),
            (bzimage(&lz4(b"no elf", 6)), "not an ELF"),
        ];
        for (image, says) in cases {
            let error = unpack(&image).unwrap_err();
            let refusal = error.downcast_ref::<Refusal>().unwrap();
            assert!(refusal.message.contains(says), "{:?} instead of {says:?}", refusal.message);
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(at in 0usize..4000, to: u8, cut in 0usize..4000) {
            let content = b"\x7fELF and so on, and so on, and so on, and so on".as_slice();
            let mut image = bzimage(&lz4(content, content.len()));
            let at = at % image.len();
            image[at] = to;
            image.truncate(image.len().saturating_sub(cut / 4));
            let _ = unpack(&image);
        }
    }
}
