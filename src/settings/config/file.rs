//! One `config.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::keys::{ConfigKey, KEYS};
use crate::model::{Refusal, RefusalKind};
use crate::settings::file_values::not_toml;

/// The values in a file, as flags have them, each with its line.
pub(crate) type FileSettings = BTreeMap<&'static str, (String, usize)>;

/// Reads a file's text.
///
/// # Errors
/// `Usage`, naming the file, the line and the key.
pub(crate) fn parse(text: &str, path: &Path) -> Result<FileSettings, Refusal> {
    let line_at = |at: usize| 1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
    let refuse = |at: usize, why: String| {
        Refusal::new(RefusalKind::Usage, format!("{}:{}: {why}", path.display(), line_at(at)))
    };
    let table = DeTable::parse(text)
        .map_err(|error| not_toml(&error, |at| format!("{}:{}", path.display(), line_at(at))))?;
    let mut settings = FileSettings::new();
    for (name, value) in table.get_ref() {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let Some(key) = ConfigKey::find(name) else {
            let known = KEYS.iter().map(|key| key.name);
            return Err(refuse(at, format!("unknown key {name:?}")).hint_at_nearest(
                name,
                known,
                "'man 5 mayfly-config' describes all keys",
            ));
        };
        let typed = || text[value.span()].lines().next().unwrap_or_default();
        let text = key.form.read(value.get_ref()).ok_or_else(|| {
            refuse(at, format!("{name} must be {}, not {}", key.form.expected(), typed()))
        })?;
        settings.insert(key.name, (text, line_at(at)));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<FileSettings, Refusal> {
        parse(text, Path::new("config.toml"))
    }

    #[test]
    fn values_are_as_flags_have_them_and_know_their_lines() {
        let text = "# mine\nbackend = \"qemu\"\nmem = \"2G\"\n\nvcpus = 2\nkeep = true\nttl = 1_800\n\
                    qemu_bin = \"qemu\"\nstate_dir = \"/srv/x\"\n";
        let settings = parsed(text).unwrap();
        for (key, value, line) in [
            ("backend", "qemu", 2),
            ("mem", "2G", 3),
            ("vcpus", "2", 5),
            ("keep", "true", 6),
            ("ttl", "1800", 7),
            ("qemu_bin", "qemu", 8),
            ("state_dir", "/srv/x", 9),
        ] {
            assert_eq!(settings[key], (value.to_owned(), line), "{key}");
        }
        assert_eq!(settings.len(), 7);
        assert!(parsed("").unwrap().is_empty());
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        for (text, message) in [
            ("\nbackend = \"xen\"", "config.toml:2: backend must be \"auto\" or "),
            ("backend = 1", "config.toml:1: backend must be "),
            ("vcpus = -1", "config.toml:1: vcpus must be a number"),
            ("vcpus = \"2\"", "config.toml:1: vcpus must be a number"),
            ("mem = \"lots\"", "config.toml:1: mem must be a size such as \"512M\""),
            ("mem = 1.5", "config.toml:1: mem must be a size"),
            ("ttl = \"soon\"", "config.toml:1: ttl must be a duration such as \"1m30s\""),
            ("keep = \"true\"", "config.toml:1: keep must be true or false"),
            ("keep = 1", "config.toml:1: keep must be true or false"),
            ("state_dir = \"here\"", "config.toml:1: state_dir must be an absolute path"),
            ("state_dir = \"\"", "config.toml:1: state_dir must be an absolute path"),
            ("qemu_bin = \"./qemu\"", "config.toml:1: qemu_bin must be a program's name"),
            ("profile = \"\"", "config.toml:1: profile must be a text"),
            ("profile = [\"a\"]", "config.toml:1: profile must be a text"),
            ("[profile]\nname = \"a\"", "config.toml:1: profile must be a text"),
            ("mem = 1\nmem = 2", "config.toml:2: "),
            ("mem", "config.toml:1: "),
        ] {
            let refusal = parsed(text).unwrap_err();
            assert!(refusal.message.starts_with(message), "{text}: {refusal}");
            assert_eq!(refusal.kind, RefusalKind::Usage);
        }
    }

    #[test]
    fn the_nearest_key_is_suggested() {
        let unknown = |text: &str| {
            let refusal = parsed(text).unwrap_err();
            (refusal.message, refusal.hint.unwrap())
        };
        let (message, hint) = unknown("mem = 1\nbackened = \"qemu\"\n");
        assert_eq!(message, "config.toml:2: unknown key \"backened\"");
        assert!(hint.starts_with("did you mean \"backend\"?"), "{hint}");
        assert!(unknown("nonsense = 1").1.contains("describes all keys"));
        assert!(
            unknown("[limits]\nmem_mib = 1").0.contains("config.toml:1: unknown key \"limits\"")
        );
    }
}
