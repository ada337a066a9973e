//! Names of hosts on the network, as rules and queries spell them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// The longest name that DNS can carry, without its final dot.
const MAX_LENGTH: usize = 253;
const MAX_LABEL: usize = 63;

/// A complete name in lower case, without a final dot. Underscores are allowed, as in `_sip._tcp.example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name ends with `parent` and has at least one label more.
    pub fn is_below(&self, parent: &DnsName) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }

    /// This name followed by `suffix`, if DNS can carry it.
    pub fn with_suffix(&self, suffix: &DnsName) -> Option<DnsName> {
        format!("{self}.{suffix}").parse().ok()
    }
}

impl FromStr for DnsName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<DnsName, Refusal> {
        let refuse = |why: &str| Err(Refusal::usage(format!("{text:?} is not a host name: {why}")));
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return refuse("it is empty");
        }
        if !name.is_ascii() {
            return refuse("it has letters outside ASCII").map_err(|refusal| {
                refusal.hint(
                    "write it as DNS does, in Punycode: xn--mnchen-3ya.example for münchen.example",
                )
            });
        }
        if name.len() > MAX_LENGTH {
            return refuse("it is longer than 253 characters");
        }
        for label in name.split('.') {
            if label.is_empty() {
                return refuse("it has two dots in a row, or begins with one");
            }
            if label.len() > MAX_LABEL {
                return refuse("a part between dots is longer than 63 characters");
            }
            if let Some(other) =
                label.chars().find(|&c| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            {
                return refuse(&format!("it contains {other:?}"));
            }
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return refuse("its last part is a number").map_err(|refusal| {
                refusal.hint("an IPv4 address has four numbers from 0 to 255, such as 192.0.2.7")
            });
        }
        Ok(DnsName(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DnsName {
    type Error = Refusal;

    fn try_from(text: String) -> Result<DnsName, Refusal> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_kept_in_one_spelling() {
        assert_eq!(name("Example.ORG.").as_str(), "example.org");
        assert_eq!(name("_sip._tcp.example.org").as_str(), "_sip._tcp.example.org");
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(name(&long).as_str().len(), 253);
        assert!(format!("{long}e").parse::<DnsName>().is_err());
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "it is empty"),
            (".", "it is empty"),
            ("a..b", "two dots"),
            (".a", "begins with one"),
            ("a b", "contains ' '"),
            ("a\nb", "contains '\\n'"),
            ("10.0.0.300", "its last part is a number"),
            ("münchen.example", "outside ASCII"),
            (&"x".repeat(64), "63 characters"),
        ] {
            let refusal = text.parse::<DnsName>().unwrap_err();
            assert!(refusal.message.contains(why), "{text:?}: {}", refusal.message);
        }
    }

    #[test]
    fn below_means_at_least_one_label_more() {
        assert!(name("a.example.org").is_below(&name("example.org")));
        assert!(name("a.b.example.org").is_below(&name("example.org")));
        assert!(!name("example.org").is_below(&name("example.org")));
        assert!(!name("badexample.org").is_below(&name("example.org")));
    }
}
