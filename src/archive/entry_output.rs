//! What a tree of files can be written as.

use std::io::{self, Read};

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
