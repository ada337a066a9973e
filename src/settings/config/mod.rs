//! The user's defaults: `config.toml`.
//!
//! In order of precedence: flag, variable, the file that `MAYFLY_CONFIG` names, the user's file, the
//! system's, the profile, the built-in default. For the parser of the command line, values of files are
//! defaults of flags, so verbs need not know of them.

pub(crate) mod file;
mod keys;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use keys::{ConfigKey, KEYS, KeyForm};

use super::trusted;
use crate::model::Refusal;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    Flag,
    /// The variable of that name.
    Variable(String),
    File {
        path: PathBuf,
        line: usize,
    },
    /// No flag, variable or file sets it.
    BuiltIn,
}

/// All files together.
#[derive(Debug, Clone, Default)]
pub struct ConfigFiles {
    /// In order of precedence.
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    path: PathBuf,
    settings: file::FileSettings,
}

impl ConfigFiles {
    /// Reads the files that exist.
    ///
    /// # Errors
    /// `Usage` if one has a mistake; `Host` if another user could have written it.
    pub fn load() -> Result<ConfigFiles> {
        let named = named().map(|path| (path, true));
        let usual = usual().into_iter().map(|path| (path, false));
        let mut texts = Vec::new();
        for (path, required) in named.into_iter().chain(usual) {
            let read = trusted::read(&path, required);
            let read = if required { read.context("MAYFLY_CONFIG") } else { read };
            if let Some(text) = read? {
                texts.push((path, text));
            }
        }
        Ok(ConfigFiles::of(&texts)?)
    }

    /// Parses the texts of files, which have their paths, in order of precedence.
    fn of(texts: &[(PathBuf, String)]) -> Result<ConfigFiles, Refusal> {
        let layer = |(path, text): &(PathBuf, String)| {
            Ok(Layer { path: path.clone(), settings: file::parse(text, path)? })
        };
        Ok(ConfigFiles { layers: texts.iter().map(layer).collect::<Result<_, Refusal>>()? })
    }

    /// The value of a key in the files, as its flag has it, and where it is.
    pub fn get(&self, key: &str) -> Option<(&str, ValueOrigin)> {
        self.layers.iter().find_map(|layer| {
            let (value, line) = layer.settings.get(key)?;
            Some((value.as_str(), ValueOrigin::File { path: layer.path.clone(), line: *line }))
        })
    }

    /// The value of a key in the environment, or else in the files.
    pub fn or_variable(&self, key: &ConfigKey) -> Option<(OsString, ValueOrigin)> {
        let variable = key.variable();
        match std::env::var_os(&variable).filter(|value| !value.is_empty()) {
            Some(value) => Some((value, ValueOrigin::Variable(variable))),
            None => self.get(key.name).map(|(value, origin)| (value.into(), origin)),
        }
    }
}

/// The file that a user writes settings to.
pub fn own_file() -> Option<PathBuf> {
    usual().into_iter().next()
}

/// The files that are always read, in order of precedence.
pub fn usual() -> Vec<PathBuf> {
    let user = trusted::user_directory().map(|directory| directory.join("config.toml"));
    user.into_iter().chain([Path::new(trusted::SYSTEM_DIRECTORY).join("config.toml")]).collect()
}

fn named() -> Option<PathBuf> {
    std::env::var_os("MAYFLY_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_sets_a_key_takes_precedence() {
        let text = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let config = ConfigFiles::of(&[
            text("named", "mem = \"1G\"\n"),
            text("user", "mem = \"2G\"\nvcpus = 2\n"),
            text("system", "mem = \"3G\"\nvcpus = 3\n\nkeep = true\n"),
        ])
        .unwrap();
        let found = |key: &str| config.get(key).map(|(value, origin)| (value.to_owned(), origin));
        let at = |value: &str, path: &str, line| {
            Some((value.to_owned(), ValueOrigin::File { path: path.into(), line }))
        };
        assert_eq!(found("mem"), at("1G", "named", 1));
        assert_eq!(found("vcpus"), at("2", "user", 2));
        assert_eq!(found("keep"), at("true", "system", 4));
        assert_eq!(found("ttl"), None);
        // A mistake in any file is an error.
        assert!(
            ConfigFiles::of(&[text("user", "mem = 1\n"), text("system", "mem = []\n")]).is_err()
        );
    }

    #[test]
    fn keys_are_sorted_and_named_as_variables_are() {
        for (number, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..number].iter().all(|other| other.name != key.name), "{}", key.name);
            assert_eq!(key.variable().to_lowercase(), format!("mayfly_{}", key.name));
        }
    }
}
