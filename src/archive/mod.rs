//! Trees of files as tar streams, and back: what `cp` moves between host and guest, used by both ends.
//!
//! ```text
//!   pack ──▶ Writer ──▶ a stream ──▶ Reader ──▶ receive ──▶ Staged ──▶ place
//!   a tree   pax tar    exec's own   checked    in order    beside     renamed
//! ```
//!
//! A stream has one root, whose name is empty (`.` in the tar): whoever receives it decides what the
//! root is called and where it goes ([`Destination`]). Every other name is beneath the root, and comes
//! after its directory and before anything that is not in that directory. So a receiver never looks
//! anything up by a path: it holds the directories it is in ([`Tree`]) and makes the next entry, which
//! must not exist yet, in the innermost one. What is received goes into a directory of our own
//! ([`Staged`]) and is put in its place when all of it is there ([`Staged::place`]).
//!
//! [`receive_foreign`] takes tar archives that somebody else made. Only a guest does that, for `cp -`.

mod destination;
mod entry;
mod foreign;
mod leftovers;
mod name;
mod pack;
mod pax;
mod place;
mod quota;
mod reader;
mod receive;
mod relay;
mod staged;
mod tally;
mod tree;
mod writer;

pub use destination::{Cargo, Destination, Made, Target, make_parents, own_name};
pub use entry::{Entry, Kind, Time};
pub use foreign::receive_foreign;
pub use name::Name;
pub use pack::Source;
pub use place::InTheWay;
pub use quota::{Exceeded, Quota};
pub use reader::{Broken, Reader};
pub use receive::{Sink, receive};
pub use relay::Relay;
pub use staged::Staged;
pub use tally::{Tally, Watch};
pub use tree::{Rules, Tree};
pub use writer::Writer;
