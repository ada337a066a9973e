//! Labels, by which a user finds VMs.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::refusal::{Refusal, RefusalKind};

/// How many labels a VM may have.
pub const MAX_LABELS: usize = 16;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 63;

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 255;

/// The most bytes of all keys and values of one VM. Every command reads the whole registry, and every
/// change writes it, so labels slow down all commands.
pub const MAX_TOTAL: usize = 1024;

/// One label: `KEY=VALUE`, or `KEY` for an empty value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmLabel {
    key: String,
    value: String,
}

/// A condition on labels: `KEY=VALUE`, or `KEY` for any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelQuery {
    key: String,
    value: Option<String>,
}

/// The labels of one VM, not too many and not too long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct VmLabels(BTreeMap<String, String>);

impl VmLabels {
    /// All of these; of two with the same key, the last.
    ///
    /// # Errors
    /// `Usage` if they are too many, or too long together.
    pub fn collect(labels: impl IntoIterator<Item = VmLabel>) -> Result<VmLabels, Refusal> {
        let pairs = labels.into_iter().map(|label| (label.key, label.value));
        VmLabels(pairs.collect()).bounded()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as a user would type it.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Whether one of them meets the condition.
    pub fn matches(&self, query: &LabelQuery) -> bool {
        let found = self.0.get(&query.key);
        found.is_some_and(|found| query.value.as_ref().is_none_or(|value| value == found))
    }

    fn bounded(self) -> Result<VmLabels, Refusal> {
        let total: usize = self.0.iter().map(|(key, value)| key.len() + value.len()).sum();
        if self.0.len() > MAX_LABELS {
            let message = format!("{} labels are too many for one VM", self.0.len());
            return Err(
                Refusal::new(RefusalKind::Usage, message).hint(format!("it may have {MAX_LABELS}"))
            );
        }
        if total > MAX_TOTAL {
            let message = format!("the labels are too long together: {total} bytes");
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint(format!("keys and values of a VM may have {MAX_TOTAL} bytes in all")));
        }
        Ok(self)
    }
}

impl From<VmLabels> for BTreeMap<String, String> {
    fn from(VmLabels(labels): VmLabels) -> Self {
        labels
    }
}

// Checked, because what a file holds must obey the same grammar as what a user types.
impl TryFrom<BTreeMap<String, String>> for VmLabels {
    type Error = Refusal;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<VmLabels, Refusal> {
        for (key, value) in &pairs {
            check_key(key)?;
            check_value(value)?;
        }
        VmLabels(pairs).bounded()
    }
}

impl FromStr for VmLabel {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<VmLabel, Refusal> {
        let LabelQuery { key, value } = text.parse()?;
        Ok(VmLabel { key, value: value.unwrap_or_default() })
    }
}

impl FromStr for LabelQuery {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<LabelQuery, Refusal> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        check_key(key)?;
        value.as_deref().map_or(Ok(()), check_value)?;
        Ok(LabelQuery { key: key.to_owned(), value })
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::new(RefusalKind::Usage, format!("{key:?} cannot be a label's key: {why}"))
            .hint("write KEY=VALUE, with letters, digits and inner '.', '_', '-', '/' in the key"))
    };
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    let outer = |end: Option<&u8>| end.is_some_and(u8::is_ascii_alphanumeric);
    if key.is_empty() {
        return refuse("it is empty");
    }
    if key.len() > MAX_KEY {
        return refuse("it is longer than 63 bytes");
    }
    if !key.bytes().all(inner) {
        return refuse("it has a character that may not be there");
    }
    if !outer(key.as_bytes().first()) || !outer(key.as_bytes().last()) {
        return refuse("it must begin and end with a letter or digit");
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::new(RefusalKind::Usage, format!("{value:?} cannot be a label's value: {why}"))
            .hint("use printable ASCII characters"))
    };
    if value.len() > MAX_VALUE {
        return refuse("it is longer than 255 bytes");
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return refuse("it has a character that may not be there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[&str]) -> Result<VmLabels, Refusal> {
        VmLabels::collect(pairs.iter().map(|pair| pair.parse().unwrap()))
    }

    #[test]
    fn only_plain_labels_are_accepted() {
        for good in ["ci", "ci=", "ci=1", "a/b.c_d-e=f g=h", "commit=3f2a", "url=https://x/?a=b"] {
            assert!(good.parse::<VmLabel>().is_ok(), "{good}");
        }
        let long = |key, value| format!("{}={}", "k".repeat(key), "v".repeat(value));
        assert!(long(MAX_KEY, MAX_VALUE).parse::<VmLabel>().is_ok());
        for bad in [
            "",
            "=",
            "=v",
            "-k=v",
            "k-=v",
            ".=v",
            "k k=v",
            "k\n=v",
            "ü=v",
            "k=ü",
            "k=\x1b[2J",
            "k=a\tb",
            "k=\u{202e}",
            "k\0=v",
        ] {
            assert!(bad.parse::<VmLabel>().is_err(), "{bad:?}");
            assert!(bad.parse::<LabelQuery>().is_err(), "{bad:?}");
        }
        for (key, value) in [(MAX_KEY + 1, 0), (1, MAX_VALUE + 1)] {
            assert!(long(key, value).parse::<VmLabel>().is_err());
        }
    }

    #[test]
    fn number_and_size_are_bounded_and_the_last_of_a_key_wins() {
        let numbered = |count: usize, length: usize| -> Vec<VmLabel> {
            let one = |n| format!("k{n:02}={}", "v".repeat(length)).parse().unwrap();
            (0..count).map(one).collect()
        };
        assert!(VmLabels::collect(numbered(MAX_LABELS, 1)).is_ok());
        assert!(VmLabels::collect(numbered(MAX_LABELS + 1, 1)).is_err());
        assert!(VmLabels::collect(numbered(4, 253)).is_ok());
        assert!(VmLabels::collect(numbered(4, 254)).is_err());
        let same = labels(&["k=1", "k=2"]).unwrap();
        assert!(same.matches(&"k=2".parse().unwrap()) && !same.matches(&"k=1".parse().unwrap()));
    }

    #[test]
    fn a_query_asks_for_a_key_or_also_for_its_value() {
        let found = labels(&["ci=7", "empty"]).unwrap();
        let matches = |query: &str| found.matches(&query.parse().unwrap());
        assert!(matches("ci") && matches("ci=7") && matches("empty") && matches("empty="));
        assert!(!matches("ci=") && !matches("ci=70") && !matches("empty=x") && !matches("c"));
    }

    #[test]
    fn labels_in_a_file_are_checked() {
        let read = |json: &str| serde_json::from_str::<VmLabels>(json);
        assert_eq!(read(r#"{"ci":"7"}"#).unwrap(), labels(&["ci=7"]).unwrap());
        for bad in [r#"{"":"v"}"#, r#"{"k":"\u001b"}"#, r#"{"k":1}"#, r#"["k"]"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&format!(r#"{{"k":"{}"}}"#, "v".repeat(300))).is_err());
    }
}
