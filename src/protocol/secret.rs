//! Secrets: what a command is given in confidence.
//!
//! They travel apart from their request, in [`FrameKind::Secret`] frames before it, so that no JSON has them
//! in it. A payload is a name's length in one byte, the name, and a piece of the secret; pieces of one
//! name follow each other.

use std::fmt;

use zeroize::Zeroizing;

use super::{FrameKind, MAX_PAYLOAD, ProtocolViolation};

/// The most bytes of all secrets of one command together, names included: as much as docker takes for
/// one.
pub const MAX_SECRETS: usize = 512 * 1024;

/// The longest name.
const MAX_NAME: usize = 64;

/// One of them.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedSecret {
    name: String,
    value: Zeroizing<Vec<u8>>,
}

impl NamedSecret {
    /// A secret with a name for its file; `None` if the name does not obey [`is_secret_name`].
    pub fn new(name: &str, value: Zeroizing<Vec<u8>>) -> Option<NamedSecret> {
        is_secret_name(name).then(|| NamedSecret { name: name.to_owned(), value })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The payloads that carry it.
    pub fn payloads(&self) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
        let name = self.name.as_bytes();
        self.value.chunks(MAX_PAYLOAD - 1 - name.len()).map(|piece| {
            let mut payload = Zeroizing::new(Vec::with_capacity(1 + name.len() + piece.len()));
            payload.push(name.len() as u8);
            payload.extend_from_slice(name);
            payload.extend_from_slice(piece);
            payload
        })
    }

    /// How much of [`MAX_SECRETS`] it takes.
    pub fn size(&self) -> usize {
        let payloads = self.value.len().div_ceil(MAX_PAYLOAD - 1 - self.name.len());
        payloads * (1 + self.name.len()) + self.value.len()
    }
}

/// Not what it says.
impl fmt::Debug for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?}, {} bytes)", self.name, self.value.len())
    }
}

/// Whether `name` can be a secret's: a file's name that no shell and no program could take for anything
/// else. Letters, digits, `_`, `-` and `.`, at most 64; not first `-` or `.`.
pub fn is_secret_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= MAX_NAME
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "-.".contains(c))
}

/// The secrets of a request that is on its way.
#[derive(Debug, Default)]
pub struct ReceivedSecrets {
    secrets: Vec<NamedSecret>,
    size: usize,
}

impl ReceivedSecrets {
    /// Takes a frame's payload.
    ///
    /// # Errors
    /// A [`ProtocolViolation`] where it is not what [`NamedSecret::payloads`] makes, or too much.
    pub fn add(&mut self, payload: &[u8]) -> Result<(), ProtocolViolation> {
        let malformed = |why: &str| ProtocolViolation::Malformed(FrameKind::Secret, why.into());
        let (&length, rest) = payload.split_first().ok_or_else(|| malformed("it is empty"))?;
        let (name, piece) =
            rest.split_at_checked(length.into()).ok_or_else(|| malformed("it is cut off"))?;
        let name = str::from_utf8(name)
            .ok()
            .filter(|name| is_secret_name(name))
            .ok_or_else(|| malformed("it has a bad name"))?;
        self.size += payload.len();
        if self.size > MAX_SECRETS {
            return Err(ProtocolViolation::Length(FrameKind::Secret, payload.len() as u32));
        }
        match self.secrets.last_mut().filter(|last| last.name == name) {
            Some(last) => {
                // Growing in place could leave the old bytes behind.
                let mut whole = Zeroizing::new(Vec::with_capacity(last.value.len() + piece.len()));
                whole.extend_from_slice(&last.value);
                whole.extend_from_slice(piece);
                last.value = whole;
            }
            None => self
                .secrets
                .push(NamedSecret { name: name.to_owned(), value: Zeroizing::new(piece.to_vec()) }),
        }
        Ok(())
    }

    /// All there are, for the request they were sent for.
    pub fn take(&mut self) -> Vec<NamedSecret> {
        self.size = 0;
        std::mem::take(&mut self.secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, value: &[u8]) -> NamedSecret {
        NamedSecret::new(name, Zeroizing::new(value.to_vec())).unwrap()
    }

    #[test]
    fn names_are_names_of_files_and_nothing_else() {
        for good in ["token", "a", "_", "id_rsa", "tls.key", "A-1", &"x".repeat(64)] {
            assert!(is_secret_name(good), "{good}");
        }
        for bad in
            ["", ".", "..", "-x", ".x", "a/b", "a b", "a=b", "\u{e4}", "a\n", &"x".repeat(65)]
        {
            assert!(!is_secret_name(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_sent_in_pieces_arrives_whole() {
        let long: Vec<u8> = (0..MAX_PAYLOAD * 3).map(|n| n as u8).collect();
        let sent = [secret("a", b"1"), secret("long", &long), secret("b", &[0; MAX_PAYLOAD - 2])];
        let mut received = ReceivedSecrets::default();
        let mut size = 0;
        for payload in sent.iter().flat_map(NamedSecret::payloads) {
            assert!(payload.len() <= MAX_PAYLOAD);
            size += payload.len();
            received.add(&payload).unwrap();
        }
        assert_eq!(size, sent.iter().map(NamedSecret::size).sum::<usize>());
        assert_eq!(received.take(), sent);
        assert!(received.take().is_empty());
    }

    #[test]
    fn payloads_that_make_no_sense_and_too_many_are_violations() {
        let mut received = ReceivedSecrets::default();
        for bad in [&b""[..], b"\x05abc", b"\x00x", b"\x02..x", b"\x02\xff\xffx"] {
            assert!(matches!(received.add(bad), Err(ProtocolViolation::Malformed(..))), "{bad:?}");
        }
        let payload = secret("a", &[1; MAX_PAYLOAD - 2]).payloads().next().unwrap();
        for _ in 0..MAX_SECRETS / MAX_PAYLOAD {
            received.add(&payload).unwrap();
        }
        assert!(matches!(received.add(&payload), Err(ProtocolViolation::Length(..))));
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", secret("a", b"word")), "Secret(\"a\", 4 bytes)");
    }
}
