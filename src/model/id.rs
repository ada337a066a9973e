//! A VM's id, its name, and what a user may type for either.

use std::str::FromStr;

use serde::Serialize;

use super::name_list::listed;
use super::refusal::{Refusal, RefusalKind};

/// The number of hex digits in a [`VmId`].
pub const ID_LENGTH: usize = 12;

/// The longest name: it becomes the guest's hostname, and a hostname label has at most 63 bytes.
pub const MAX_NAME: usize = 63;

/// Twelve lowercase hex digits, so that an id is safe as a file name and an argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct VmId(String);

impl VmId {
    /// A new VM's id: the first twelve digits of the version 4 UUID made of these bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let mut text = uuid::Builder::from_random_bytes(bytes).into_uuid().simple().to_string();
        text.truncate(ID_LENGTH);
        VmId(text)
    }

    /// The id as a number.
    pub fn number(&self) -> u64 {
        u64::from_str_radix(&self.0, 16).expect("an id is 12 hex digits")
    }
}

impl FromStr for VmId {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == ID_LENGTH && text.bytes().all(hex) {
            Ok(VmId(text.to_owned()))
        } else {
            Err(Refusal::new(
                RefusalKind::Usage,
                format!("{text:?} is not a VM id (12 hex digits)"),
            ))
        }
    }
}

/// A name given by a user. It is a hostname label: letters, digits and inner hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct VmName(String);

impl FromStr for VmName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: &str| {
            Err(Refusal::new(RefusalKind::Usage, format!("{text:?} cannot be a VM name: {why}"))
                .hint("use letters, digits and hyphens, as in 'build-1'"))
        };
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_NAME {
            return refuse("it is longer than 63 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return refuse("it has a character that is not a letter, digit or hyphen");
        }
        if text.starts_with('-') || text.ends_with('-') {
            return refuse("it starts or ends with a hyphen");
        }
        if text.parse::<VmId>().is_ok() {
            return refuse("it looks like a VM id");
        }
        Ok(VmName(text.to_owned()))
    }
}

/// Implements what types that hold a text of a certain grammar have in common.
macro_rules! text_type {
    ($($t:ident),*) => {$(
        impl $t {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $t {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $t {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        // Parsed, because what a file holds must obey the same grammar as what a user types.
        impl<'de> serde::Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(super) use text_type;
text_type!(VmId, VmName, VmRef);

/// What a user typed for a VM: an id, a unique prefix of one, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRef(String);

impl VmRef {
    /// Finds the VM among `vms`. A whole id comes before a name, and a name before a prefix.
    ///
    /// # Errors
    /// `NotFound` if nothing matches, `Usage` if a prefix matches several.
    pub fn resolve<'a>(
        &self,
        vms: impl Iterator<Item = (&'a VmId, Option<&'a VmName>)> + Clone,
    ) -> Result<VmId, Refusal> {
        let mut named = None;
        let mut prefixed = Vec::new();
        for (id, name) in vms.clone() {
            if id.as_str() == self.0 {
                return Ok(id.clone());
            }
            if name.is_some_and(|name| name.as_str() == self.0) {
                named = Some(id.clone());
            }
            if id.as_str().starts_with(&self.0) {
                prefixed.push(id.clone());
            }
        }
        match (named, prefixed.as_slice()) {
            (Some(id), _) => Ok(id),
            (None, [id]) => Ok(id.clone()),
            (None, []) => {
                let words = vms.flat_map(|(id, name)| {
                    [Some(id.as_str()), name.map(VmName::as_str)].into_iter().flatten()
                });
                Err(Refusal::new(RefusalKind::NotFound, format!("no VM {:?}", self.0))
                    .hint_at_nearest(&self.0, words, "'mayfly status' lists all VMs"))
            }
            (None, several) => {
                let ids = listed(several.iter().map(VmId::as_str));
                let message = format!("{:?} could mean {} VMs: {ids}", self.0, several.len());
                Err(Refusal::usage(message).hint("type more of the id"))
            }
        }
    }
}

impl FromStr for VmRef {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        // An empty string would be a prefix of every id, as in `rm "$unset"`.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
            return Err(Refusal::new(
                RefusalKind::Usage,
                format!("{text:?} is not a VM id or name"),
            ));
        }
        Ok(VmRef(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(typed: &str, vms: &[(&str, Option<&str>)]) -> Result<String, RefusalKind> {
        let vms: Vec<(VmId, Option<VmName>)> = vms
            .iter()
            .map(|(id, name)| (id.parse().unwrap(), name.map(|name| name.parse().unwrap())))
            .collect();
        let typed: VmRef = typed.parse().unwrap();
        typed
            .resolve(vms.iter().map(|(id, name)| (id, name.as_ref())))
            .map(|id| id.to_string())
            .map_err(|refusal| refusal.kind)
    }

    #[test]
    fn ids_made_of_bytes_obey_their_own_grammar() {
        for byte in 0..=255 {
            let id = VmId::from_random([byte; 16]);
            assert_eq!(id.as_str().parse::<VmId>().unwrap(), id);
        }
    }

    #[test]
    fn grammar_refuses_what_could_be_a_path_an_option_or_an_escape() {
        for bad in ["", "..", "a/b", "-rf", "a b", "a\n", "\u{202e}x", "é", "0123456789ab", "x-"] {
            assert!(bad.parse::<VmName>().is_err(), "{bad:?}");
        }
        for bad in ["0123456789AB", "0123456789a", "0123456789abc", "../../../../a"] {
            assert!(bad.parse::<VmId>().is_err(), "{bad:?}");
        }
        assert!("".parse::<VmRef>().is_err());
        assert!("build-1".parse::<VmName>().is_ok());
    }

    #[test]
    fn a_reference_is_an_id_then_a_name_then_a_prefix() {
        let vms = [
            ("aaaaaaaaaaaa", Some("one")),
            ("aaaaaaaaaaab", Some("aaaaaaaaaaa")),
            ("bbbb00000000", None),
        ];
        assert_eq!(resolve("aaaaaaaaaaaa", &vms), Ok("aaaaaaaaaaaa".into()));
        assert_eq!(resolve("one", &vms), Ok("aaaaaaaaaaaa".into()));
        assert_eq!(resolve("aaaaaaaaaaa", &vms), Ok("aaaaaaaaaaab".into()));
        assert_eq!(resolve("b", &vms), Ok("bbbb00000000".into()));
        assert_eq!(resolve("aa", &vms), Err(RefusalKind::Usage));
        assert_eq!(resolve("c", &vms), Err(RefusalKind::NotFound));
    }
}
