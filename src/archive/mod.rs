//! Trees of files as tar streams, and back: what `cp` moves between host and guest, used by both ends.
//!
//! ```text
//!   pack ──▶ Writer ──▶ a stream ──▶ Reader ──▶ receive ──▶ Staged ──▶ place
//!   a tree   pax tar    exec's own   checked    in order    beside     renamed
//! ```
//!
//! A stream has one root, whose name is empty (`.` in the tar): whoever receives it decides what the
//! root is called and where it goes ([`CopyDestination`]). Every other name is beneath the root, and comes
//! after its directory and before anything that is not in that directory. So a receiver never looks
//! anything up by a path: it holds the directories it is in ([`TreeBuilder`]) and makes the next entry, which
//! must not exist yet, in the innermost one. What is received goes into a directory of our own
//! ([`StagingDirectory`]) and is put in its place when all of it is there ([`StagingDirectory::place`]).
//!
//! Tar archives that other programs made are read by [`MemberReader`], and unpacked by [`extract()`] for `cp -`.

mod broken;
mod destination;
mod directories;
mod entry;
mod extract;
mod leftovers;
mod lenient;
mod name;
mod pack;
mod pax;
mod place;
mod quota;
mod reader;
mod receive;
mod relay;
mod sparse_map;
mod staged;
mod tally;
mod tree;
mod writer;

pub use broken::ArchiveError;
pub use destination::{
    CopyDestination, CopySource, CopyTarget, CreatedDirectories, make_parents, own_name,
};
pub use entry::{EntryKind, FileTime, TarEntry};
pub use extract::extract;
pub use lenient::{MemberReader, TarMember};
pub use name::EntryName;
pub use pack::PackSource;
pub use place::PlaceConflict;
pub use quota::{QuotaExceeded, UnpackQuota};
pub use reader::ArchiveReader;
pub use receive::{EntrySink, receive};
pub use relay::EntryRelay;
pub use staged::StagingDirectory;
pub use tally::{CopyObserver, CopyTally};
pub use tree::{TreeBuilder, UnpackRules};
pub use writer::ArchiveWriter;
