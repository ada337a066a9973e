//! Unpacks the kernel: Debian ships a bzImage, which contains a compressed ELF file. The ELF file boots
//! faster, and Firecracker boots nothing else.
//!
//! The layout is that of the Linux x86 boot protocol (Documentation/arch/x86/boot.rst): the header's
//! fields are at fixed offsets, and the payload's offset counts from the end of the setup sectors.

use std::io::Read;

use anyhow::{Context, Result};
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::XzReader;

use crate::model::{Refusal, RefusalKind};

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The first version of the boot protocol with the payload's offset in the header.
const FIRST_VERSION_WITH_PAYLOAD: u16 = 0x0208;

/// The largest unpacked kernel; Debian's have 53 and 66 MB. Keeps a hostile file from filling the memory.
const MAX_UNPACKED: usize = 512 << 20;

/// KiB of memory for unpacking xz: the kernel's build uses a dictionary of 32 MiB.
const XZ_MEMORY: u32 = 64 << 10;

/// Unpacks the ELF file in a bzImage. An ELF file is returned as it is.
///
/// # Errors
/// `Host` if it is not a kernel, is damaged, or is compressed with anything but lz4 (Debian's cloud kernel)
/// or xz (its full one).
pub fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    if image.starts_with(b"\x7fELF") {
        return Ok(image.to_vec());
    }
    let payload = payload(image)?;
    let unpacked = match compression(payload) {
        Some("lz4") => read_all(payload, FrameDecoder::new)?,
        Some("xz") => {
            read_all(payload, |stream| XzReader::new_mem_limit(stream, false, XZ_MEMORY))?
        }
        Some(other) => {
            let message = format!("the kernel is compressed with {other}, not with lz4 or xz");
            return Err(refusal(message)
                .hint("name another kernel in the profile, such as bookworm's linux-image-amd64")
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
        // In very old kernels, zero means four.
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

/// The decoded payload, which must be as large as the payload says.
fn read_all<'a, D: Read>(payload: &'a [u8], decoder: fn(&'a [u8]) -> D) -> Result<Vec<u8>> {
    // The kernel's build appends the unpacked size. A legacy lz4 frame has no end mark, so the decoder would
    // take the size for the length of another block.
    let (stream, size) = payload.split_last_chunk::<4>().context("the payload is too short")?;
    let size = usize::try_from(u32::from_le_bytes(*size))?;
    if size > MAX_UNPACKED {
        return Err(refusal(format!("the kernel claims to be {size} bytes long")).into());
    }
    // Not reserved: the size is a claim.
    let mut unpacked = Vec::new();
    // One byte more than announced, to notice if there is more.
    let limit = u64::try_from(size)? + 1;
    decoder(stream)
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(|error| refusal(format!("the kernel cannot be unpacked: {error}")))?;
    if unpacked.len() != size {
        return Err(refusal("the kernel is not as long as it says").into());
    }
    Ok(unpacked)
}

fn refusal(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Host, message)
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

    /// Calls of one function from many places, after the mark of an ELF file.
    fn calls() -> Vec<u8> {
        let mut content = b"\x7fELF, with calls of one function:".to_vec();
        while content.len() < 200 {
            let next = u32::try_from(content.len() + 5).unwrap();
            content.push(0xe8);
            content.extend((4096 - next).to_le_bytes());
        }
        content
    }

    /// [`calls`] as the kernel's build packs them, with xz's filter for x86:
    /// `xz --check=crc32 --x86 --lzma2=preset=9,dict=4KiB`, and then the size.
    const CALLS: [u8; 108] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04,
        0x00, 0x21, 0x01, 0x00, 0x00, 0xda, 0x33, 0xad, 0x03, 0xe0, 0x00, 0xca, 0x00, 0x2d, 0x5d,
        0x00, 0x3f, 0x91, 0x45, 0x84, 0x69, 0xb8, 0x3d, 0xb6, 0xfa, 0xf5, 0x48, 0x60, 0x02, 0x19,
        0xaf, 0x28, 0xf0, 0xa3, 0xa0, 0x29, 0x16, 0x2e, 0x37, 0x9b, 0xef, 0x36, 0xb2, 0x87, 0x54,
        0xef, 0x36, 0x5c, 0x1f, 0x92, 0xd0, 0x6e, 0xcb, 0x67, 0x1c, 0x14, 0x40, 0x2c, 0xb4, 0x80,
        0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0x93, 0xdd, 0xcf, 0x00, 0x01, 0x45, 0xcb, 0x01, 0x00,
        0x00, 0x00, 0xad, 0xf1, 0xb9, 0xba, 0x3e, 0x30, 0x0d, 0x8b, 0x02, 0x00, 0x00, 0x00, 0x00,
        0x01, 0x59, 0x5a,
    ];

    fn xz(size: u32) -> Vec<u8> {
        [CALLS.as_slice(), &size.to_le_bytes()].concat()
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
        assert_eq!(unpack(&bzimage(&xz(203))).unwrap(), calls());
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
        let mut damaged = xz(203);
        damaged[50] ^= 1;
        // A dictionary of nearly 4 GiB, and the checksum of the header that says so.
        let mut hungry = xz(203);
        hungry[18] = 40;
        hungry[20..24].copy_from_slice(&[0x70, 0x9d, 0xf0, 0x5e]);
        let cases = [
            (b"MZ".to_vec(), "not a Linux kernel"),
            (vec![0; 4096], "not a Linux kernel"),
            (old, "too old"),
            (cut, "ends before its payload"),
            (beyond, "ends before its payload"),
            (bzimage(b"\x1f\x8b\x08rest"), "compressed with gzip"),
            (bzimage(b"\x28\xb5\x2f\xfdrest"), "compressed with zstd"),
            (bzimage(b"\xfd7zXZ\0rest\0\0\0\0"), "cannot be unpacked"),
            (bzimage(&xz(202)), "not as long as it says"),
            (bzimage(&xz(204)), "not as long as it says"),
            (bzimage(&xz(0xffff_ffff)), "claims to be"),
            (bzimage(&damaged), "cannot be unpacked"),
            (bzimage(&hungry), "cannot be unpacked"),
            (bzimage(b"????????"), "compression is unknown"),
            (bzimage(b""), "compression is unknown"),
            (bzimage(&lz4(content, content.len() + 1)), "not as long as it says"),
            (bzimage(&lz4(content, content.len() - 1)), "not as long as it says"),
            (bzimage(&lz4(content, 0xffff_ffff)), "claims to be"),
            (bzimage(&lz4(b"no elf", 6)), "not an ELF"),
        ];
        for (image, says) in cases {
            let error = unpack(&image).unwrap_err();
            let refusal = Refusal::find(&error).unwrap();
            assert!(refusal.message.contains(says), "{:?} instead of {says:?}", refusal.message);
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(
            is_xz: bool,
            at in 0usize..4000,
            to: u8,
            cut in 0usize..4000,
        ) {
            let content = b"\x7fELF and so on, and so on, and so on, and so on".as_slice();
            let payload = if is_xz { xz(203) } else { lz4(content, content.len()) };
            let mut image = bzimage(&payload);
            let at = at % image.len();
            image[at] = to;
            image.truncate(image.len().saturating_sub(cut / 4));
            let _ = unpack(&image);
        }
    }
}
