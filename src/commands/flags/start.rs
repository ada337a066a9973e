//! The flag that says how a VM comes up, shared by `start` and `run`.

use clap::Args;

use crate::lifecycle::{Purpose, Way};

#[derive(Debug, Args)]
pub struct StartWay {
    /// Boot the VM, instead of starting it as a copy of one that has booted
    ///
    /// The first start of a VM makes a template of its shape, and those after it are copies of that.
    /// 'mayfly template ls' lists templates.
    #[arg(long, env = "MAYFLY_COLD")]
    cold: bool,
}

impl StartWay {
    /// What `lifecycle` is asked for.
    pub fn way(&self, purpose: Purpose) -> Way {
        Way { cold: self.cold, purpose }
    }
}
