//! The network helper of a VM: the ports it listens on, its start beside the VMM, its replacement, and how it is
//! doing.

mod attach;
mod helper;
mod ports;
mod replace;
mod report;
mod request;

pub use attach::attach;
pub use ports::BoundPorts;
pub use replace::replace_lost;
pub use report::report_on;
pub use request::{NetworkRequest, check_backend};
