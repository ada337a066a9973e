//! Defaults of the commands in a VM: what an OCI image calls its configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most bytes that all defaults may have together. With what the user adds, a command's arguments and
/// variables must fit a frame of the protocol, and the kernel takes at most 128 KiB for one of them.
const MAX_BYTES: usize = 128 << 10;

/// A profile has these defaults, and each of its VMs keeps those it was created with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandDefaults {
    /// What `run` puts before the words of a command.
    pub entrypoint: Vec<String>,
    /// The command of `run` if none is given.
    pub cmd: Vec<String>,
    /// Variables of every command.
    pub env: BTreeMap<String, String>,
    /// The user of commands: a name or a number, optionally followed by `:GROUP`.
    pub user: Option<String>,
    /// The working directory of commands.
    pub workdir: Option<String>,
}

impl CommandDefaults {
    /// Whether there are no defaults.
    pub fn is_empty(&self) -> bool {
        *self == CommandDefaults::default()
    }

    /// The key that is wrong, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let named = self.env.iter().flat_map(|(name, value)| [name, value]);
        let all = || {
            let words = self.entrypoint.iter().map(|word| ("entrypoint", word));
            let words = words.chain(self.cmd.iter().map(|word| ("cmd", word)));
            let words = words.chain(named.clone().map(|text| ("env", text)));
            let words = words.chain(self.user.iter().map(|user| ("user", user)));
            words.chain(self.workdir.iter().map(|directory| ("workdir", directory)))
        };
        if let Some((key, text)) = all().find(|(_, text)| text.contains('\0')) {
            return Some((key, format!("{text:?} has a null byte in it")));
        }
        let bytes: usize = all().map(|(_, text)| text.len() + 1).sum();
        if bytes > MAX_BYTES {
            let why = format!(
                "its command and variables take {bytes} bytes, more than the {MAX_BYTES} allowed"
            );
            return Some(("env", why));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Some(("env", format!("{name:?} cannot be a variable's name")));
        }
        if self.entrypoint.first().is_some_and(String::is_empty) {
            return Some(("entrypoint", "its entrypoint has no program".into()));
        }
        let is_user = |user: &String| {
            !user.is_empty() && !user.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if let Some(user) = self.user.as_ref().filter(|user| !is_user(user)) {
            return Some(("user", format!("{user:?} cannot be a user")));
        }
        self.workdir
            .as_ref()
            .filter(|directory| !directory.starts_with('/'))
            .map(|directory| ("workdir", format!("{directory:?} is not an absolute directory")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_defaults_are_refused() {
        let good = CommandDefaults {
            entrypoint: vec!["/init".into()],
            cmd: vec![String::new(), "a b".into()],
            env: [("PATH".to_owned(), "/bin".to_owned()), ("EMPTY".to_owned(), String::new())]
                .into(),
            user: Some("1000:1000".into()),
            workdir: Some("/".into()),
        };
        assert_eq!(good.problem(), None);
        assert_eq!(CommandDefaults::default().problem(), None);
        let bad = |change: &dyn Fn(&mut CommandDefaults)| {
            let mut defaults = good.clone();
            change(&mut defaults);
            defaults.problem()
        };
        assert!(bad(&|d| d.cmd.push("a\0b".into())).unwrap().1.contains("null byte"));
        assert!(bad(&|d| d.cmd.push("a".repeat(MAX_BYTES))).unwrap().1.contains("bytes"));
        assert!(bad(&|d| drop(d.env.insert("A=B".into(), "".into()))).is_some());
        assert!(bad(&|d| drop(d.env.insert("".into(), "x".into()))).is_some());
        assert!(bad(&|d| d.entrypoint = vec!["".into()]).is_some());
        assert!(bad(&|d| d.user = Some("a b".into())).is_some());
        assert!(bad(&|d| d.user = Some("".into())).is_some());
        assert!(bad(&|d| d.workdir = Some("srv".into())).is_some());
    }
}
