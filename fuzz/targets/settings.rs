//! Files that users write, and the profile that an import writes.

use std::fs;
use std::path::Path;

use super::allocation::bounded;
use super::check_error;
use super::scratch::FuzzScratch;
use crate::model::profile::IMPORTED_PROFILE;
use crate::settings::{self, config};

/// `profiles.toml`.
pub fn profiles(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let texts = [("profiles.toml".to_owned(), text.to_owned())];
    let merged = bounded((8 << 20) + 1000 * input.len(), || settings::merge(&texts));
    match merged {
        // The built-in profiles cannot be removed.
        Ok(set) => assert!(set.profiles.contains_key("debian-base")),
        Err(refusal) => check_error(refusal),
    }
}

/// `config.toml`.
pub fn config_file(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let parsed = bounded((4 << 20) + 1000 * input.len(), || {
        config::file::parse(text, Path::new("config.toml"))
    });
    match parsed {
        Ok(values) => {
            for (_, line) in values.values() {
                assert!((1..=text.split('\n').count()).contains(line));
            }
        }
        Err(refusal) => check_error(refusal),
    }
}

/// `profile.toml` of an imported image.
pub fn imported_profile(input: &[u8]) {
    let scratch = FuzzScratch::new();
    let image = scratch.path().join("tree/imported");
    fs::create_dir(&image).expect("a new directory");
    fs::write(image.join(IMPORTED_PROFILE), input).expect("a new file");
    // Nobody else's files are read.
    if let Err(error) = settings::load_profiles(&scratch.tree(), None) {
        check_error(error);
    }
}
