//! The flag that says how a VM comes up, shared by `start` and `run`.

use clap::Args;

use crate::lifecycle::{StartOptions, StreamPurpose};

#[derive(Debug, Args)]
pub struct StartFlags {
    /// Boot the VM, instead of starting it as a copy of one that has booted
    ///
    /// The first start of a VM makes a template of its shape, and those after it are copies of that.
    /// 'mayfly template ls' lists templates.
    #[arg(long, env = "MAYFLY_COLD")]
    cold: bool,
}

impl StartFlags {
    /// What `lifecycle` is asked for.
    pub fn way(&self, purpose: StreamPurpose) -> StartOptions {
        StartOptions { cold: self.cold, purpose }
    }
}
