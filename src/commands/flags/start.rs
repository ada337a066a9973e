//! The flag for how a VM starts, shared by `start` and `run`.

use clap::Args;

use crate::lifecycle::{StartOptions, StreamPurpose};

#[derive(Debug, Args)]
pub struct StartFlags {
    /// Boot the VM instead of starting it from a template
    ///
    /// The first VM of a kind becomes a template; later ones start as copies of it.
    #[arg(long, env = "MAYFLY_COLD")]
    cold: bool,
}

impl StartFlags {
    /// The options for [`lifecycle::start`](crate::lifecycle::start).
    pub fn options(&self, purpose: StreamPurpose) -> StartOptions {
        StartOptions { cold: self.cold, purpose }
    }
}
