//! The network of a VM: a process for each VM that has one, with a TCP/IP stack of its own. See
//! docs/adr/0021-network.md.
//!
//! ```text
//! guest ─▶ line ─▶ engine ─▶ policy, names ─▶ sockets of the host
//! ```

pub mod addresses;
pub mod dns_message;
pub mod names;
pub mod policy;
pub mod routes;
pub mod sockets;
pub mod special;
