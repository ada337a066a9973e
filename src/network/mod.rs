//! The network of a VM: a process for each VM that has one, with a TCP/IP stack of its own. See
//! docs/adr/0021-network.md.
//!
//! ```text
//! guest ─▶ line ─▶ engine ─▶ policy, names ─▶ sockets of the host
//! ```

pub mod addresses;
pub mod denials;
pub mod dns_message;
mod dns_stream;
pub mod engine;
mod exchange;
pub mod line;
mod names;
pub mod order;
mod packet;
pub mod policy;
pub mod resolv_conf;
pub mod routes;
mod serve;
mod sockets;
pub mod special;
mod tcp_flow;
mod timers;

pub use serve::{ARGUMENT, serve};
