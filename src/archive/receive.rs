//! From a stream to whatever keeps it: in order, within bounds, and only what may be taken.

use std::io::{self, Read};

use anyhow::Result;

use super::entry::{Entry, Kind};
use super::quota::Quota;
use super::reader::{Broken, Reader};
use super::tally::{Tally, Watch};

/// What keeps entries. Each comes after its directory, and nothing outside that comes in between.
pub trait Sink {
    /// A directory; what is in it follows.
    ///
    /// # Errors
    /// Where it cannot be kept, as everywhere here.
    fn directory(&mut self, entry: &Entry) -> Result<()>;

    /// A file and its content, all of which is to be read.
    ///
    /// # Errors
    /// Where it cannot be kept.
    fn file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()>;

    /// A symbolic link, not to be followed; `false` where links are not kept.
    ///
    /// # Errors
    /// Where it cannot be kept.
    fn link(&mut self, entry: &Entry, target: &[u8]) -> Result<bool>;

    /// How many bytes keeping an entry takes beside those of its content.
    fn overhead(&self, _: &Entry) -> u64 {
        0
    }
}

/// Takes a whole stream, and tells what its root is.
///
/// # Errors
/// [`Broken`], [`Exceeded`](super::Exceeded), and the sink's own.
pub fn receive<R: Read>(
    reader: &mut Reader<R>,
    sink: &mut dyn Sink,
    quota: &mut Quota,
    watch: &dyn Watch,
) -> Result<(Kind, Tally)> {
    let mut tally = Tally::default();
    let mut order = Order::default();
    while let Some(entry) = reader.next_entry()? {
        if let (None, Some(total)) = (&order.root, reader.total()) {
            watch.total(total);
        }
        order.check(&entry)?;
        let size = if let Kind::File { size } = entry.kind { size } else { 0 };
        quota.take(size.saturating_add(sink.overhead(&entry)))?;
        let taken = match &entry.kind {
            Kind::Directory => sink.directory(&entry).map(|()| true)?,
            Kind::File { .. } => {
                let mut content = Counted { content: reader.content(), watch };
                sink.file(&entry, &mut content).map(|()| true)?
            }
            Kind::Link { target } => sink.link(&entry, target)?,
            Kind::Special => false,
        };
        match taken {
            true => tally.count(&entry.kind),
            false => tally.skip(entry.name, &entry.kind),
        }
    }
    match order.root {
        Some(root) => Ok((root, tally)),
        None => Err(Broken::Malformed("everything").into()),
    }
}

/// Which directory the stream is in.
#[derive(Debug, Default)]
struct Order {
    root: Option<Kind>,
    /// The parts of its name.
    open: Vec<Vec<u8>>,
}

impl Order {
    fn check(&mut self, entry: &Entry) -> Result<(), Broken> {
        let out_of_order = || Broken::Order(entry.name.clone());
        match (&self.root, entry.name.split()) {
            // The root, and nothing before it.
            (None, None) => self.root = Some(entry.kind.clone()),
            (Some(Kind::Directory), Some((parent, _))) if self.open.starts_with(parent) => {
                self.open.truncate(parent.len());
                if entry.kind == Kind::Directory {
                    self.open = entry.name.parts().to_vec();
                }
            }
            (Some(_), None) => return Err(Broken::Twice(entry.name.clone())),
            _ => return Err(out_of_order()),
        }
        Ok(())
    }
}

/// Content whose pieces are told of.
struct Counted<'a, C> {
    content: C,
    watch: &'a dyn Watch,
}

impl<C: Read> Read for Counted<'_, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.watch.moved(count as u64);
        Ok(count)
    }
}
