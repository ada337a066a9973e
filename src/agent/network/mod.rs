//! The guest's network: the interface, and the file that tells programs who looks up names.

pub mod interface;
pub mod resolver;
pub mod tun;
