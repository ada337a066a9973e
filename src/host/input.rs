//! Reading files that may be pipes. A pipe without a writer, and a stream that another process made non-blocking, are
//! waited for, until a signal arrives.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Result;

use super::signals::InterruptWatch;
use crate::sys::nonblocking::would_block;
use crate::sys::poll::PollFlags;

/// Opens a file to read with [`read`]. Opening a pipe does not wait for its writer.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)
}

/// Opens a file that cannot be a pipe.
///
/// # Errors
/// It is not a regular file, or cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// As [`std::fs::read`], for a file that cannot be a pipe.
///
/// # Errors
/// As for [`open_regular`].
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads what there is, and waits until there is something; 0 is the end.
///
/// # Errors
/// Those of read(2); [`SignalInterrupt`](super::signals::SignalInterrupt).
pub fn read(mut file: &File, into: &mut [u8]) -> Result<usize> {
    let watch = InterruptWatch::begin();
    loop {
        watch.wait(Some((file.as_fd(), PollFlags::POLLIN)), None)?;
        match file.read(into) {
            // Another process that shares it may have been faster.
            Err(error) if would_block(&error) => {}
            read => return Ok(read?),
        }
    }
}

/// Reads a text to its end; `None` if there are more than `limit` bytes.
///
/// # Errors
/// As for [`read`]; it is not UTF-8.
pub fn read_text(file: &File, limit: usize) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1 << 13];
    loop {
        match read(file, &mut piece)? {
            0 => return Ok(Some(String::from_utf8(bytes)?)),
            count if bytes.len() + count > limit => return Ok(None),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
