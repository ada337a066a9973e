//! The network helper of a VM: the ports it listens on, its start beside the VMM, and its end.

mod attach;
mod helper;
mod ports;
mod replace;

pub use attach::attach;
pub use ports::BoundPorts;
pub use replace::replace_lost;
