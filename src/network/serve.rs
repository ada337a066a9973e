//! The helper's program: `mayfly __net ORDER`.

use std::ffi::OsString;
use std::os::fd::RawFd;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use super::engine::NetworkEngine;
use super::order::{NetworkOrder, inherited};
use crate::host::confinement;

/// The hidden argument that makes mayfly the helper. After it comes the number of a descriptor with the order, from
/// [`NetworkOrder::to_file`].
pub const ARGUMENT: &str = "__net";

/// The most open files: all connections, and what else the engine needs.
const OPEN_FILES: u64 = 2048;

/// Serves the order that `args` names, until its line ends.
///
/// # Errors
/// The order cannot be read, the process cannot be confined, or the line breaks.
pub fn serve(args: &[OsString]) -> Result<()> {
    ensure!(!geteuid().is_root(), "the network helper does not run as root");
    let number = args.get(2).and_then(|number| number.to_str()?.parse::<RawFd>().ok());
    let number = number.context("the descriptor of the order is missing")?;
    let order = NetworkOrder::from_file(inherited(number)?)?;
    let open_files = confinement::limit_open_files(OPEN_FILES)?;
    let engine = NetworkEngine::new(order, open_files)?;
    confinement::confine_to_sockets()?;
    engine.run()
}
