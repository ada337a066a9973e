//! Verifying the digests in OCI descriptors while reading.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha256, Sha512};

use crate::image::digest::hex;
use crate::model::{Refusal, RefusalKind};

/// The digest of a blob: an algorithm's name and hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobDigest {
    algorithm: Algorithm,
    digits: String,
}

/// The algorithms that the OCI image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Algorithm {
    Sha256,
    Sha512,
}

impl BlobDigest {
    /// The digest of bytes in memory.
    pub fn sha256(bytes: &[u8]) -> BlobDigest {
        BlobDigest { algorithm: Algorithm::Sha256, digits: hex(&Sha256::digest(bytes)) }
    }

    /// The path in a layout of the blob with this digest. It is safe: it consists of letters and digits.
    pub fn blob(&self) -> String {
        format!("blobs/{}/{}", self.algorithm.name(), self.digits)
    }

    /// Checks the digest of `bytes`, which errors call `what`.
    ///
    /// # Errors
    /// Those of [`DigestReader::finish`].
    pub fn check(&self, bytes: &[u8], what: &str) -> Result<()> {
        let mut checked = DigestReader::new(bytes, Some(self.clone()));
        io::copy(&mut checked, &mut io::sink())?;
        checked.finish(what)
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

impl FromStr for BlobDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<BlobDigest, String> {
        let parse = || {
            let (name, digits) = text.split_once(':')?;
            let (algorithm, length) = match name {
                "sha256" => (Algorithm::Sha256, 64),
                "sha512" => (Algorithm::Sha512, 128),
                _ => return None,
            };
            let are_digits =
                digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (digits.len() == length && are_digits)
                .then(|| BlobDigest { algorithm, digits: digits.to_owned() })
        };
        parse().ok_or_else(|| format!("{text:?} is not a SHA-256 or SHA-512 digest"))
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = String;

    fn try_from(text: String) -> Result<BlobDigest, String> {
        text.parse()
    }
}

impl From<BlobDigest> for String {
    fn from(digest: BlobDigest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.digits)
    }
}

/// A reader that computes the digest of what it reads.
pub struct DigestReader<R> {
    input: R,
    /// The digest that is wanted, and the one of what was read so far.
    check: Option<(BlobDigest, Box<dyn DynDigest>)>,
}

impl<R: Read> DigestReader<R> {
    /// Without a wanted digest, nothing is checked.
    pub fn new(input: R, wanted: Option<BlobDigest>) -> DigestReader<R> {
        let check = wanted.map(|wanted| {
            let hash: Box<dyn DynDigest> = match wanted.algorithm {
                Algorithm::Sha256 => Box::new(Sha256::new()),
                Algorithm::Sha512 => Box::new(Sha512::new()),
            };
            (wanted, hash)
        });
        DigestReader { input, check }
    }

    /// Checks the digest, after the caller has read everything. Errors call the content `what`.
    ///
    /// # Errors
    /// `Failure` if it is not the wanted one.
    pub fn finish(self, what: &str) -> Result<()> {
        let Some((wanted, hash)) = self.check else { return Ok(()) };
        let digits = hex(&hash.finalize());
        if digits != wanted.digits {
            let message = format!("{what} is damaged: its digest is not {wanted}");
            bail!(
                Refusal::new(RefusalKind::Failure, message).hint("fetch or save the image again")
            );
        }
        Ok(())
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        if let Some((_, hash)) = &mut self.check {
            hash.update(&into[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_that_can_be_checked_parse() {
        let digest = BlobDigest::sha256(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
        assert!(digest.blob().starts_with("blobs/sha256/ba78"));
        for bad in [
            "",
            "sha256:",
            "md5:900150983cd24fb0d6963f7d28e17f72",
            "sha256:../../../../../../../../../../../../../../../../../../../../../etc/passwd",
            "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
        ] {
            assert!(bad.parse::<BlobDigest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn content_that_is_not_what_it_should_be_is_refused() {
        BlobDigest::sha256(b"abc").check(b"abc", "x").unwrap();
        let error = BlobDigest::sha256(b"abc").check(b"abd", "the layer").unwrap_err();
        assert!(error.to_string().starts_with("the layer is damaged"), "{error}");
        let sha512: BlobDigest =
            format!("sha512:{}", hex(&Sha512::digest(b"abc"))).parse().unwrap();
        sha512.check(b"abc", "x").unwrap();
        assert!(sha512.check(b"", "x").is_err());
    }
}
