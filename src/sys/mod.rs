//! Linux interfaces that the host side and the guest agent both use. Imports nothing else of this crate.

pub mod descriptor;
pub mod directory_cursor;
pub mod file_system;
pub mod kernel;
pub mod nonblocking;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod random;
pub mod removal;
pub mod signals;
