//! Pipes that hold more than the kernel's default of 64 KiB.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::fcntl_setpipe_size;

/// Bytes: two of the largest writes that common programs make (128 KiB), so that the reader and the writer
/// need not wait for each other after each. Switching between processes is expensive in an emulated guest.
const SIZE: usize = 256 * 1024;

/// A pipe's two ends, the reading one first. Programs that are started do not inherit them.
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe()?;
    // A user may have used up what the kernel grants to pipes; the default size works too, only slower.
    let _ = fcntl_setpipe_size(&reader, SIZE);
    Ok((reader.into(), writer.into()))
}
