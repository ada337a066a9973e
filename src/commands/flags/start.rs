//! The flag that says how a VM comes up, shared by `start` and `run`.

use clap::Args;

use crate::lifecycle::{StartOptions, StreamPurpose};

#[derive(Debug, Args)]
pub struct StartFlags {
    /// Boot the VM instead of starting it from a template
    ///
    /// The first start of a kind of VM makes a template, and later starts are copies of it. 'mayfly
    /// template ls' lists templates.
    #[arg(long, env = "MAYFLY_COLD")]
    cold: bool,
}

impl StartFlags {
    /// What `lifecycle` is asked for.
    pub fn way(&self, purpose: StreamPurpose) -> StartOptions {
        StartOptions { cold: self.cold, purpose }
    }
}
