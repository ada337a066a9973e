//! What commands get from their VM's profile: entrypoint and command for `run`; variables, user and
//! directory for all.
//!
//! A VM keeps the values of its profile at its creation in a file beside its manifest. The file does
//! not exist if the profile has none.

use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::host::atomic_file;
use crate::host::input;
use crate::lifecycle::manager::VmManager;
use crate::model::{CommandDefaults, Refusal, VmId};
use crate::protocol::{ExecProgram, ExecRequest, WireText};
use crate::settings::Settings;

/// What the user of `run` gave as the command.
#[derive(Debug, Clone, Default)]
pub struct CommandWords {
    pub words: Vec<WireText>,
    /// Replaces the profile's entrypoint, and its command too.
    pub entrypoint: Option<Vec<WireText>>,
}

/// What `run` runs, as with docker: the entrypoint, followed by the words, or by the profile's command
/// if there are no words. The inner error says that there is nothing to run.
///
/// # Errors
/// `NotFound` for an unknown profile.
pub fn program_to_run(
    settings: &Settings,
    profile: &str,
    typed: CommandWords,
) -> Result<Result<ExecProgram, Refusal>> {
    let defaults = command_defaults(settings, profile)?;
    Ok(program(&defaults, typed).ok_or_else(|| {
        let message = format!("no command is given, and profile {profile} has none");
        Refusal::usage(message)
            .hint("write it at the end, as in 'mayfly run uname -a'; a shell needs a terminal")
    }))
}

/// The command defaults of a profile.
///
/// # Errors
/// `NotFound` for an unknown profile.
pub fn command_defaults(settings: &Settings, profile: &str) -> Result<CommandDefaults> {
    Ok(settings.profile(profile)?.command.clone())
}

fn program(defaults: &CommandDefaults, typed: CommandWords) -> Option<ExecProgram> {
    let texts = |words: &[String]| words.iter().map(|word| WireText::from(word.as_str())).collect();
    let is_overridden = typed.entrypoint.is_some();
    let mut argv: Vec<WireText> = typed.entrypoint.unwrap_or_else(|| texts(&defaults.entrypoint));
    if !typed.words.is_empty() {
        argv.extend(typed.words);
    } else if !is_overridden {
        argv.extend::<Vec<WireText>>(texts(&defaults.cmd));
    }
    (!argv.is_empty()).then_some(ExecProgram::Argv(argv))
}

/// Saves the command defaults of a VM, if there are any.
pub fn save(manager: &VmManager, id: &VmId, defaults: &CommandDefaults) -> Result<()> {
    if defaults.is_empty() {
        return Ok(());
    }
    atomic_file::write_new(&manager.paths(id).command(), &serde_json::to_vec_pretty(defaults)?)
        .map(drop)
}

/// Adds the saved defaults of a VM to a command. Values in the command take precedence.
pub fn add_saved(manager: &VmManager, id: &VmId, exec: &mut ExecRequest) -> Result<()> {
    let path = manager.paths(id).command();
    let text = match input::read_regular(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let defaults: CommandDefaults = serde_json::from_slice(&text)
        .with_context(|| format!("{} does not parse", path.display()))?;
    apply(defaults, exec);
    Ok(())
}

fn apply(defaults: CommandDefaults, exec: &mut ExecRequest) {
    // The last value of a name takes effect.
    let own = std::mem::take(&mut exec.env);
    let saved = defaults.env.iter();
    exec.env = saved.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    exec.env.extend(own);
    exec.user = exec.user.take().or(defaults.user);
    exec.cwd = exec.cwd.take().or_else(|| defaults.workdir.as_deref().map(WireText::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> CommandDefaults {
        CommandDefaults {
            entrypoint: vec!["init".into(), "--".into()],
            cmd: vec!["serve".into()],
            env: [("A".to_owned(), "image".to_owned())].into(),
            user: Some("app".into()),
            workdir: Some("/srv".into()),
        }
    }

    fn argv(
        defaults: &CommandDefaults,
        words: &[&str],
        entrypoint: Option<&[&str]>,
    ) -> Vec<String> {
        let texts = |words: &[&str]| words.iter().map(|&word| WireText::from(word)).collect();
        let typed = CommandWords { words: texts(words), entrypoint: entrypoint.map(texts) };
        match program(defaults, typed) {
            Some(ExecProgram::Argv(argv)) => {
                argv.iter().map(|word| word.as_os_str().to_str().unwrap().to_owned()).collect()
            }
            Some(_) => unreachable!("only words were given"),
            None => Vec::new(),
        }
    }

    #[test]
    fn entrypoint_and_command_go_together_as_in_docker() {
        let image = defaults();
        assert_eq!(argv(&image, &[], None), ["init", "--", "serve"]);
        assert_eq!(argv(&image, &["x", "y"], None), ["init", "--", "x", "y"]);
        assert_eq!(argv(&image, &[], Some(&["sh"])), ["sh"]);
        assert_eq!(argv(&image, &["x"], Some(&["sh"])), ["sh", "x"]);
        assert_eq!(argv(&image, &["x"], Some(&[])), ["x"]);
        assert_eq!(argv(&image, &[], Some(&[])), [""; 0]);
        assert_eq!(argv(&CommandDefaults::default(), &[], None), [""; 0]);
        assert_eq!(argv(&CommandDefaults::default(), &["x"], None), ["x"]);
    }

    #[test]
    fn values_of_the_user_win() {
        let mut exec = ExecRequest::of(ExecProgram::Argv(vec![WireText::from("true")]));
        apply(defaults(), &mut exec);
        assert_eq!((exec.user.as_deref(), &exec.cwd), (Some("app"), &Some(WireText::from("/srv"))));

        let mut exec = ExecRequest::of(ExecProgram::Argv(vec![WireText::from("true")]));
        exec.user = Some("0".into());
        exec.cwd = Some(WireText::from("/"));
        exec.env = vec![(WireText::from("A"), WireText::from("flag"))];
        apply(defaults(), &mut exec);
        assert_eq!((exec.user.as_deref(), &exec.cwd), (Some("0"), &Some(WireText::from("/"))));
        assert_eq!(exec.env.last(), Some(&(WireText::from("A"), WireText::from("flag"))));
    }
}
