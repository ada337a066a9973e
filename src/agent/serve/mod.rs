//! Serving the host: the byte streams it comes by, and a session on each.

pub mod host_stream;
pub mod listener;
mod session;
pub mod threads;
