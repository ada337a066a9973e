//! Secrets for commands.
//!
//! They are sent in [`FrameKind::Secret`] frames before their request, so that they are in no JSON. A payload
//! is the length of the name in one byte, the name, and a piece of the secret. The pieces of a secret follow
//! each other.

use std::fmt;

use zeroize::Zeroizing;

use super::frame::{FrameKind, MAX_PAYLOAD, ProtocolViolation};

/// The most bytes of all secrets of one command, names included: docker's limit for one secret.
pub const MAX_SECRETS: usize = 512 * 1024;

/// The longest name.
const MAX_NAME: usize = 64;

/// One secret.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedSecret {
    name: String,
    value: Zeroizing<Vec<u8>>,
}

impl NamedSecret {
    /// `name` is the name of its file; `None` unless [`is_secret_name`].
    pub fn new(name: &str, value: Zeroizing<Vec<u8>>) -> Option<NamedSecret> {
        is_secret_name(name).then(|| NamedSecret { name: name.to_owned(), value })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The payloads to send it in.
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

    /// How many bytes of [`MAX_SECRETS`] it takes.
    pub fn size(&self) -> usize {
        let payloads = self.value.len().div_ceil(MAX_PAYLOAD - 1 - self.name.len());
        payloads * (1 + self.name.len()) + self.value.len()
    }
}

/// Does not show the value.
impl fmt::Debug for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedSecret({:?}, {} bytes)", self.name, self.value.len())
    }
}

/// Whether `name` is valid for a secret: 1 to 64 letters, digits, `_`, `-` and `.`, beginning with none of the
/// last two. As a file's name, it means nothing else to a shell or a program.
pub fn is_secret_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= MAX_NAME
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "-.".contains(c))
}

/// The secrets received for the next request.
#[derive(Debug, Default)]
pub struct ReceivedSecrets {
    secrets: Vec<NamedSecret>,
    size: usize,
}

impl ReceivedSecrets {
    /// Takes a frame's payload.
    ///
    /// # Errors
    /// A [`ProtocolViolation`] if it is malformed, or the secrets are larger than [`MAX_SECRETS`].
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
                // Growing the vector in place could leave a copy of the old bytes in memory.
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

    /// Takes all secrets.
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
    fn secret_names_are_plain_file_names() {
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
    fn a_secret_sent_in_pieces_is_received_complete() {
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
    fn malformed_and_too_many_payloads_are_violations() {
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
    fn debug_output_does_not_show_the_value() {
        assert_eq!(format!("{:?}", secret("a", b"word")), "NamedSecret(\"a\", 4 bytes)");
    }
}
