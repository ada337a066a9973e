//! The name of a profile, which is also that of its image.

use std::borrow::Borrow;
use std::str::FromStr;

use serde::Serialize;

use super::id::text_type;
use super::layout::{BLOBS, PROGRAMS, TEMPLATES};
use super::refusal::{Refusal, RefusalKind};

/// The longest name, so that a file name made of it and a prefix or suffix is not too long either.
const MAX_LENGTH: usize = 63;

/// Lower-case letters, digits and hyphens: safe as a directory's name and as an argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ProfileName(String);

text_type!(ProfileName);

impl ProfileName {
    /// A name made of a text: in lower case, and with hyphens for all characters but letters and digits.
    ///
    /// # Errors
    /// `Usage` if that is empty or too long.
    pub fn of_words(text: &str) -> Result<ProfileName, Refusal> {
        let text = text.to_lowercase();
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-").parse()
    }
}

impl FromStr for ProfileName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let why = if [BLOBS, PROGRAMS, TEMPLATES].contains(&text) {
            "mayfly keeps other files under this name"
        } else if text.len() > MAX_LENGTH {
            "it is longer than 63 bytes"
        } else if !is_word(text, "-") {
            "it must be lower-case letters, digits and hyphens, and not begin with a hyphen"
        } else {
            return Ok(ProfileName(text.to_owned()));
        };
        Err(Refusal::new(RefusalKind::Usage, format!("{text:?} cannot be a profile name: {why}"))
            .hint("use lower-case letters, digits and hyphens, as in 'debian-base'"))
    }
}

/// For maps of profiles, which are searched for what a user typed.
impl Borrow<str> for ProfileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whether `text` starts with a lower-case letter or digit and holds only those and `others`.
pub(super) fn is_word(text: &str, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.chars().all(|c| plain(c) || others.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_and_free_directory_names_are_accepted() {
        for good in ["p", "debian-base", "9front", &"a".repeat(MAX_LENGTH)] {
            assert_eq!(good.parse::<ProfileName>().unwrap().as_str(), good);
        }
        let bad = ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "A", "a_b", "a.b", "é"];
        let long = "a".repeat(MAX_LENGTH + 1);
        for bad in bad.into_iter().chain([BLOBS, PROGRAMS, TEMPLATES, &long]) {
            let refusal = bad.parse::<ProfileName>().unwrap_err();
            assert!(refusal.message.contains("cannot be a profile name"), "{refusal}");
        }
    }
}
