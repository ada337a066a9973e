//! What a tree of files can be written as.

use std::io::{self, ErrorKind, Read};

use super::entry::TarEntry;
use super::tally::CopyObserver;

/// Takes the entries of a tree, each directory before its contents.
pub trait EntryOutput {
    /// Takes an entry without content.
    fn entry(&mut self, entry: &TarEntry) -> io::Result<()>;

    /// Takes a file: as many bytes of `content` as its entry says.
    ///
    /// # Errors
    /// Those of the output and of `content`; [`io::ErrorKind::UnexpectedEof`] if it is shorter.
    fn file(
        &mut self,
        entry: &TarEntry,
        content: &mut dyn Read,
        watch: &dyn CopyObserver,
    ) -> io::Result<()>;
}

/// Reads the next bytes of a file's content, of which `left` are missing: at least one, and at most what fits into `room`.
///
/// # Errors
/// Those of `content`; [`io::ErrorKind::UnexpectedEof`] if it has ended.
pub fn read_content(content: &mut dyn Read, room: &mut [u8], left: u64) -> io::Result<usize> {
    let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    loop {
        match content.read(&mut room[..wanted]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
