//! Trees of files as tar streams, as `cp` moves them between host and guest. Both sides use this module.
//!
//! ```text
//! PackSource ──▶ ArchiveWriter ──▶ a stream ──▶ ArchiveReader ──▶ receive ──▶ TreeBuilder ──▶ place
//! a tree         pax tar           of an exec   checked           in order    staged          renamed
//! ```
//!
//! A stream has one root, whose name is empty (`.` in the archive): the receiver decides its name and place
//! ([`CopyDestination`]). Every other name is beneath the root, and comes after its directory and before
//! anything outside that directory. So a receiver never resolves a path: it goes from one open directory to the
//! next ([`TreeBuilder`]) and creates the next entry, which must not exist, in the innermost one. The copy is
//! received in a [`StagingDirectory`] and moved to its place when it is complete
//! ([`StagingDirectory::place`]).
//!
//! Tar archives that other programs made are read by [`MemberReader`], and unpacked by [`extract()`] for `cp -`.

mod broken;
mod compression;
mod content;
mod destination;
mod entry;
mod entry_output;
mod erofs;
mod extract;
mod leftovers;
mod lenient;
mod name;
mod pack;
pub(crate) mod pax;
mod place;
mod quota;
mod reader;
mod receive;
mod relay;
mod replaceable;
mod sparse_map;
mod staged;
mod tally;
mod tree;
mod writer;

pub use broken::ArchiveError;
pub use compression::{CompressionFormat, UnsupportedFormat, decompress};
pub use destination::{
    CopyDestination, CopySource, CopyTarget, CreatedDirectories, make_parents, no_directory,
    own_name,
};
pub use entry::{EntryKind, FileTime, TarEntry};
pub use entry_output::EntryOutput;
pub use erofs::ErofsImage;
pub use extract::extract;
pub use lenient::{MemberReader, TarMember};
pub use name::EntryName;
pub use pack::PackSource;
pub use place::PlaceConflict;
pub use quota::{ByteCount, QuotaExceeded, UnpackQuota};
pub use reader::ArchiveReader;
pub use receive::{EntrySink, receive};
pub use relay::EntryRelay;
pub use staged::StagingDirectory;
pub use tally::{CopyObserver, CopyTally};
pub use tree::{TreeBuilder, UnpackRules};
pub use writer::ArchiveWriter;
