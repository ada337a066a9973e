//! The network helper of a VM: the ports it listens on, its start beside the VMM, and its end.

mod helper;
mod ports;

pub use helper::NetworkHelper;
pub use ports::BoundPorts;
