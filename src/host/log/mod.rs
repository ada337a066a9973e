//! Logs that other programs write, and that a hostile guest may flood.
//!
//! A VMM writes its guest's console to a file without a process of mayfly in between that could count the
//! bytes. The size of the file is limited only by the VMM's limit on the size of files
//! ([`super::launcher::LaunchBounds::file_size`]), which must be large enough for the VM's disk. So a log
//! begins [`MAX_BYTES`] bytes below that limit, after a hole that takes no space.

mod file;
mod reader;

pub use file::{MAX_BYTES, limit, open, open_to_append, tail, trim};
pub use reader::LogReader;
