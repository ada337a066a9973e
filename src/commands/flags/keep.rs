//! The flags that decide what becomes of the VM after a command, shared by `exec` and `run`.

use clap::Args;

use crate::commands::AppContext;
use crate::model::Refusal;
use crate::settings::{ConfigKey, ValueOrigin};

#[derive(Debug, Args)]
pub struct KeepFlags {
    /// Keep the VM afterwards, until it expires
    ///
    /// 'rm' deletes it earlier.
    #[arg(long, env = "MAYFLY_KEEP")]
    keep: Option<bool>,

    /// Delete the VM afterwards, as by default
    ///
    /// Overrides MAYFLY_KEEP, the profile and 'create --keep'.
    #[arg(long)]
    rm: bool,
}

impl KeepFlags {
    /// Whether to keep the VM; `None` if nothing says so.
    ///
    /// # Errors
    /// `Usage` for both flags.
    pub fn keep(&self, app: &AppContext) -> Result<Option<bool>, Refusal> {
        if !self.rm {
            return Ok(self.keep);
        }
        let origin = ConfigKey::find("keep").map(|key| app.settings.explain(key).1);
        if self.keep == Some(true) && origin == Some(ValueOrigin::Flag) {
            return Err(
                Refusal::usage("'--rm' cannot be used with '--keep'").hint("leave out one of them")
            );
        }
        Ok(Some(false))
    }

    /// As [`KeepFlags::keep`], for a VM that exists: without `--rm`, `--keep=no` leaves the decision to the VM.
    ///
    /// # Errors
    /// Those of [`KeepFlags::keep`].
    pub fn keep_existing(&self, app: &AppContext) -> Result<Option<bool>, Refusal> {
        Ok(self.keep(app)?.filter(|keep| *keep || self.rm))
    }
}
