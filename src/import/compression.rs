//! How a stream is compressed, told by how it begins, and what was compressed.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, Result};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use crate::model::{Refusal, RefusalKind};

/// Bytes read from below at a time.
const BUFFER: usize = 1 << 17;

/// KiB that unpacking xz may take: `xz -9` uses a dictionary of 64 MiB.
const XZ_MEMORY: u32 = 80 << 10;

/// The largest window of zstd, that of `zstd --ultra -22` and of `--long`.
const ZSTD_WINDOW: u64 = 128 << 20;

/// The longest of the marks below.
const MARK: usize = 6;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionFormat {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl CompressionFormat {
    /// What a stream is that begins like this. Six bytes are enough.
    ///
    /// Errors: `Usage` for one that is known and cannot be unpacked here.
    pub fn of(start: &[u8]) -> Result<CompressionFormat> {
        let begins = |mark: &[u8]| start.starts_with(mark);
        let other = match () {
            () if begins(b"\x1f\x8b") => return Ok(CompressionFormat::Gzip),
            () if begins(b"\xfd7zXZ\0") => return Ok(CompressionFormat::Xz),
            () if begins(b"\x28\xb5\x2f\xfd") => return Ok(CompressionFormat::Zstd),
            // A skippable frame, with which some writers of zstd begin.
            () if start.len() >= 4
                && (0x50..=0x5f).contains(&start[0])
                && start[1..4] == *b"\x2a\x4d\x18" =>
            {
                return Ok(CompressionFormat::Zstd);
            }
            () if begins(b"BZh") => "bzip2",
            () if begins(b"\x04\x22\x4d\x18") => "lz4",
            () if begins(b"PK\x03\x04") => "zip",
            () => return Ok(CompressionFormat::None),
        };
        let message = format!("it is packed with {other}, not with gzip, xz or zstd");
        Err(Refusal::new(RefusalKind::Usage, message)
            .hint("unpack it first, and import what was in it")
            .into())
    }
}

/// What `input` is when unpacked, whatever it is packed with.
pub fn unpacked<'a>(input: impl Read + 'a) -> Result<(CompressionFormat, Box<dyn Read + 'a>)> {
    let mut start = [0; MARK];
    let mut input = BufReader::with_capacity(BUFFER, input);
    let mut filled = 0;
    while filled < MARK {
        match input.read(&mut start[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let compression = CompressionFormat::of(&start[..filled])?;
    let input = io::Cursor::new(start[..filled].to_vec()).chain(input);
    Ok((
        compression,
        match compression {
            CompressionFormat::None => Box::new(input),
            CompressionFormat::Gzip => Box::new(MultiGzDecoder::new(input)),
            CompressionFormat::Xz => Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY)),
            CompressionFormat::Zstd => Box::new(Zstd::begin(input).context("cannot unpack zstd")?),
        },
    ))
}

/// All frames of a zstd stream: writers that let one jump into it make many.
struct Zstd<R> {
    input: R,
    decoder: FrameDecoder,
    is_over: bool,
}

impl<R: BufRead> Zstd<R> {
    fn begin(input: R) -> io::Result<Zstd<R>> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        let mut zstd = Zstd { input, decoder, is_over: false };
        zstd.next_frame()?;
        Ok(zstd)
    }

    /// Begins the next frame, if there is one.
    fn next_frame(&mut self) -> io::Result<()> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                self.is_over = true;
                return Ok(());
            }
            match self.decoder.reset(&mut self.input) {
                Ok(()) => return Ok(()),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.input).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while !self.is_over && !into.is_empty() {
            while self.decoder.can_collect() < into.len() && !self.decoder.is_finished() {
                let missing = into.len() - self.decoder.can_collect();
                self.decoder.decode_blocks(&mut self.input, UptoBytes(missing)).map_err(wrong)?;
            }
            let count = Read::read(&mut self.decoder, into)?;
            if count > 0 {
                return Ok(count);
            }
            let stored = self.decoder.get_checksum_from_data();
            if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
            }
            self.next_frame()?;
        }
        Ok(0)
    }
}
