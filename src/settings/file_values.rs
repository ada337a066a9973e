//! The keys of a `profiles.toml`, with their places, for messages about mistakes.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::model::{ProfileName, Refusal};

/// The file and line of a byte.
pub(super) fn place(text: &str, origin: &str, at: usize) -> String {
    let line = 1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
    format!("{origin}:{line}")
}

/// The refusal of a text that is not TOML.
pub(super) fn not_toml(error: &toml::de::Error, place: impl Fn(usize) -> String) -> Refusal {
    let place = place(error.span().map_or(0, |span| span.start));
    let why = error.message().replace('`', "'");
    Refusal::usage(format!("{place}: this is not TOML: {why}"))
}

/// The name of a key, and what its value must be.
pub(super) type KnownKey = (&'static str, &'static str);

/// A key of a file, and its value.
pub(super) struct FileKey {
    /// Such as `profiles.mine.mem_mib`.
    pub(super) path: String,
    /// As people say it, such as `mem_mib in [profiles.mine]`.
    shown: String,
    /// What its value must be.
    expected: &'static str,
    pub(super) key: Range<usize>,
    value: Range<usize>,
}

/// The keys of a file, all of which are known.
pub(super) struct FileValues<'a> {
    text: &'a str,
    origin: &'a str,
    pub(super) all: Vec<FileKey>,
}

impl<'a> FileValues<'a> {
    /// Refuses a file with an unknown key. Values are checked when they are read.
    /// `limits` and `profile` are the keys of those tables.
    pub(super) fn of(
        text: &'a str,
        origin: &'a str,
        whole: &DeTable<'_>,
        limits: &[KnownKey],
        profile: &[KnownKey],
    ) -> Result<Self, Refusal> {
        let mut values = FileValues { text, origin, all: Vec::new() };
        let tables = ["limits", "defaults", "profiles"].map(|name| (name, "a table"));
        values.add(whole, "", &tables)?;
        for (name, value) in whole {
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("limits", DeValue::Table(table)) => {
                    values.add(table, "limits", limits)?;
                }
                ("defaults", DeValue::Table(table)) => {
                    values.add(table, "defaults", profile)?;
                }
                (_, DeValue::Table(profiles)) => {
                    for (name, value) in profiles {
                        let path = format!("profiles.{}", name.get_ref());
                        name.get_ref().parse::<ProfileName>().map_err(|refusal| {
                            let place = place(text, origin, name.span().start);
                            Refusal { message: format!("{place}: {}", refusal.message), ..refusal }
                        })?;
                        if let DeValue::Table(table) = value.get_ref() {
                            values.add(table, &path, profile)?;
                        }
                        let (key, value) = (name.span(), value.span());
                        values.all.push(FileKey {
                            shown: path.clone(),
                            path,
                            expected: "a table",
                            key,
                            value,
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(values)
    }

    /// Adds the keys of the table that `path` names.
    fn add(&mut self, table: &DeTable<'_>, path: &str, known: &[KnownKey]) -> Result<(), Refusal> {
        let in_table = if path.is_empty() { String::new() } else { format!(" in [{path}]") };
        for (name, value) in table {
            let (key, name) = (name.span(), name.get_ref().as_ref());
            let Some((_, expected)) = known.iter().find(|(known, _)| *known == name) else {
                let place = place(self.text, self.origin, key.start);
                let names = || known.iter().map(|(name, _)| *name);
                let all = names().collect::<Vec<_>>().join(", ");
                let message = format!("{place}: unknown key {name:?}{in_table}");
                return Err(Refusal::usage(message).hint_at_nearest(
                    name,
                    names(),
                    format!("the keys are {all}"),
                ));
            };
            self.all.push(FileKey {
                path: if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") },
                shown: format!("{name}{in_table}"),
                expected,
                key,
                value: value.span(),
            });
        }
        Ok(())
    }

    /// A refusal of the value that `path` names, with its place.
    pub(super) fn refuse_as(&self, path: &str, refusal: Refusal) -> Refusal {
        let Some(key) = self.all.iter().find(|key| key.path == path) else { return refusal };
        let place = place(self.text, self.origin, key.key.start);
        Refusal { message: format!("{place}: {}: {}", key.shown, refusal.message), ..refusal }
    }

    /// The refusal of a value, which is that of the innermost key.
    pub(super) fn refuse(&self, error: &toml::de::Error) -> Refusal {
        let at = error.span().map_or(0, |span| span.start);
        let around = self.all.iter().filter(|key| key.value.contains(&at));
        let Some(key) = around.min_by_key(|key| key.value.len()) else {
            let place = place(self.text, self.origin, at);
            return Refusal::usage(format!("{place}: {}", error.message()));
        };
        let place = place(self.text, self.origin, key.key.start);
        let typed = self.text[key.value.clone()].lines().next().unwrap_or_default();
        Refusal::usage(format!("{place}: {} must be {}, not {typed}", key.shown, key.expected))
    }
}
