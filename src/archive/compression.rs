//! Recognizing and decompressing compressed streams.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, Result};
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// Bytes read at a time.
const BUFFER: usize = 1 << 17;

/// KiB of memory for xz: `xz -9` uses a dictionary of 64 MiB.
const XZ_MEMORY: u32 = 80 << 10;

/// The largest window of zstd: that of `zstd --ultra -22` and `--long`.
const ZSTD_WINDOW: u64 = 128 << 20;

/// The length of the longest magic number below.
const MAGIC: usize = 6;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionFormat {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl CompressionFormat {
    /// The format of a stream with these first six bytes.
    ///
    /// # Errors
    /// [`UnsupportedFormat`] for a known one that is not supported.
    pub fn of(start: &[u8]) -> Result<CompressionFormat, UnsupportedFormat> {
        let (name, command) = match start {
            [0x1f, 0x8b, ..] => return Ok(CompressionFormat::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Ok(CompressionFormat::Xz),
            // A frame, or a skippable one, with which some streams begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                return Ok(CompressionFormat::Zstd);
            }
            [b'B', b'Z', b'h', ..] => ("compressed with bzip2", "bzip2 -dc"),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => {
                ("compressed with lz4", "lz4 -dc")
            }
            [0x1f, 0x9d | 0xa0, ..] => ("compressed with compress", "gzip -dc"),
            [b'L', b'Z', b'I', b'P', ..] => ("compressed with lzip", "lzip -dc"),
            [0x89, b'L', b'Z', b'O', 0, ..] => ("compressed with lzop", "lzop -dc"),
            [0x5d, 0, 0, _, _, _] => ("compressed with lzma", "xz --format=lzma -dc"),
            [b'P', b'K', 3 | 5, ..] => ("a zip archive, not a tar archive", "unzip"),
            [b'7', b'z', 0xbc, 0xaf, ..] => ("a 7z archive, not a tar archive", "7z x"),
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2' | b'7'] | [0xc7, 0x71, ..] => {
                ("a cpio archive, not a tar archive", "cpio -i")
            }
            _ => return Ok(CompressionFormat::None),
        };
        Err(UnsupportedFormat { name, command })
    }
}

/// A known format that is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsupportedFormat {
    name: &'static str,
    /// What unpacks it.
    command: &'static str,
}

impl UnsupportedFormat {
    /// What to do about it.
    pub fn hint(&self) -> String {
        format!("unpack it first, with '{}'", self.command)
    }
}

impl fmt::Display for UnsupportedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}", self.name)?;
        if self.name.starts_with("compressed") {
            f.write_str(", not with gzip, xz or zstd")
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for UnsupportedFormat {}

/// The format of `input`, and what it decompresses to.
///
/// # Errors
/// Those of [`CompressionFormat::of`] and of reading `input`.
pub fn decompress<'a>(input: impl Read + 'a) -> Result<(CompressionFormat, Box<dyn Read + 'a>)> {
    let mut start = [0; MAGIC];
    let mut input = BufReader::with_capacity(BUFFER, input);
    let mut filled = 0;
    while filled < MAGIC {
        match input.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read the archive"),
        }
    }
    let compression = CompressionFormat::of(&start[..filled])?;
    // Boxed, so that the program contains each decoder once and not for each kind of input.
    let input: Box<dyn BufRead + 'a> =
        Box::new(io::Cursor::new(start[..filled].to_vec()).chain(input));
    Ok((
        compression,
        match compression {
            CompressionFormat::None => Box::new(input),
            CompressionFormat::Gzip => Box::new(Gzip(Some(GzDecoder::new(input)))),
            CompressionFormat::Xz => Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY)),
            CompressionFormat::Zstd => {
                Box::new(Zstd::begin(input).context("cannot decompress zstd")?)
            }
        },
    ))
}

/// Decompresses all members of a gzip file. Zeros may follow, which fill the last record of a tape.
struct Gzip<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let count = decoder.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.0.take().map(GzDecoder::into_inner) else { break };
            self.0 = match after_zeros(&mut input)? {
                (_, None) => None,
                (0, Some(0x1f)) => Some(GzDecoder::new(input)),
                _ => {
                    let message = "something that is not gzip follows the gzip file";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            };
        }
        Ok(0)
    }
}

/// Passes over zeros. Returns how many there were, and what follows.
fn after_zeros(input: &mut impl BufRead) -> io::Result<(usize, Option<u8>)> {
    let mut zeros = 0;
    loop {
        let bytes = input.fill_buf()?;
        let count = bytes.iter().take_while(|&&byte| byte == 0).count();
        let next = bytes.get(count).copied();
        input.consume(count);
        zeros += count;
        if count == 0 || next.is_some() {
            return Ok((zeros, next));
        }
    }
}

/// Decompresses all frames of a zstd stream. Seekable streams have many.
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
