//! Words where only flags belong, so that the error can name the flag that was meant.

use clap::Args;

use crate::commands::AppContext;
use crate::model::Refusal;
use crate::output::about_mount;

#[derive(Debug, Args)]
pub struct StrayWord {
    #[arg(hide = true, value_name = "WORD")]
    stray: Vec<String>,
}

impl StrayWord {
    /// Refuses a word after `verb`. If it is not a profile, the hint is `otherwise`, given the word.
    ///
    /// # Errors
    /// `Usage` if there is a word.
    pub fn check(
        &self,
        app: &AppContext,
        verb: &str,
        otherwise: impl Fn(&str) -> String,
    ) -> Result<(), Refusal> {
        let Some(word) = self.stray.first() else { return Ok(()) };
        if app.has_profile(word) {
            return Err(Refusal::usage(format!("{word:?} is a profile, which '-p' names"))
                .hint(format!("write 'mayfly {verb} -p {word}'")));
        }
        Err(Refusal::usage(format!("'{verb}' takes only flags, not {word:?}"))
            .hint(about_mount(word).map_or_else(|| otherwise(word), str::to_owned)))
    }
}
