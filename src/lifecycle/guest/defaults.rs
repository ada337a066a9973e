//! What commands have from their profile: for `run` the words, for all of them variables, user and
//! directory.
//!
//! A VM keeps what its profile said when it was created, in a file beside its manifest. There is none if
//! that was nothing, so that most commands pay for no more than a look.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::host::atomic_file;
use crate::lifecycle::manager::VmManager;
use crate::model::{CommandDefaults, Refusal, RefusalKind, VmId};
use crate::protocol::{ExecProgram, ExecRequest, WireText};
use crate::settings::find_profile;

/// What a user of `run` said of its command.
#[derive(Debug, Clone, Default)]
pub struct EntryWords {
    pub words: Vec<WireText>,
    /// Instead of the profile's entrypoint; its command then has no meaning either.
    pub entrypoint: Option<Vec<WireText>>,
}

/// What `run` runs, as docker does: the entrypoint, and behind it the words, or the profile's command
/// where there are none.
///
/// Errors: `NotFound` for an unknown profile. Where there is nothing to run, that is the inner one.
pub fn entry(
    manager: &VmManager,
    profile: &str,
    said: EntryWords,
) -> Result<Result<ExecProgram, Refusal>> {
    let defaults = of_profile(manager, profile)?;
    Ok(program(&defaults, said).ok_or_else(|| {
        Refusal::new(
            RefusalKind::Usage,
            format!("no command is given, and profile {profile} has none of its own"),
        )
        .hint("name one behind '--', or with -c; '-t' gives you a shell")
    }))
}

/// What a profile says of the commands in its VMs.
///
/// Errors: `NotFound` for an unknown profile.
pub fn of_profile(manager: &VmManager, profile: &str) -> Result<CommandDefaults> {
    let profiles = manager.settings.profiles()?;
    Ok(find_profile(profiles, profile)?.command.clone())
}

fn program(defaults: &CommandDefaults, said: EntryWords) -> Option<ExecProgram> {
    let texts = |words: &[String]| words.iter().map(|word| WireText::from(word.as_str())).collect();
    let is_overridden = said.entrypoint.is_some();
    let mut argv: Vec<WireText> = said.entrypoint.unwrap_or_else(|| texts(&defaults.entrypoint));
    match said.words.is_empty() {
        false => argv.extend(said.words),
        true if is_overridden => {}
        true => argv.extend::<Vec<WireText>>(texts(&defaults.cmd)),
    }
    (!argv.is_empty()).then_some(ExecProgram::Argv(argv))
}

/// Keeps what the commands of a VM will have, if that is anything.
pub fn keep(manager: &VmManager, id: &VmId, defaults: &CommandDefaults) -> Result<()> {
    if defaults.is_empty() {
        return Ok(());
    }
    atomic_file::write_new(&manager.paths(id).command(), &serde_json::to_vec_pretty(defaults)?)
        .map(drop)
}

/// Completes a command with what its VM keeps for it. What the user said wins.
pub fn complete(manager: &VmManager, id: &VmId, exec: &mut ExecRequest) -> Result<()> {
    let path = manager.paths(id).command();
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let defaults: CommandDefaults = serde_json::from_slice(&text)
        .with_context(|| format!("{} does not parse", path.display()))?;
    apply(defaults, exec);
    Ok(())
}

fn apply(defaults: CommandDefaults, exec: &mut ExecRequest) {
    // The last of a name wins.
    let named = std::mem::take(&mut exec.env);
    let kept = defaults.env.iter();
    exec.env = kept.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    exec.env.extend(named);
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
        let said = EntryWords { words: texts(words), entrypoint: entrypoint.map(texts) };
        match program(defaults, said) {
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
    fn what_the_user_said_wins() {
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
