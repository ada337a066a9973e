//! The name of a container image in a registry, as docker and podman read it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::profile_name::ProfileName;
use super::refusal::{Refusal, RefusalKind};

/// The registry of names without one.
const DOCKER_HUB: &str = "docker.io";

/// Where that registry keeps images whose names have one part.
const OFFICIAL: &str = "library/";

/// The tag of names with neither tag nor digest.
const LATEST: &str = "latest";

/// Bytes of registry and path together, and of a tag.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// How much of a digest is in a profile's name.
const SHORT_DIGEST: usize = 12;

/// The complete name of an image: `docker.io/library/alpine:3.19`. It consists of characters that are safe in an argument,
/// and does not begin with a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Registry, path, and tag or digest.
    text: String,
    /// Where the tag or digest begins, with what separates it from the path.
    version_at: usize,
}

impl ImageReference {
    /// The host, and the port if there is one.
    pub fn registry(&self) -> &str {
        self.name().split_once('/').map_or("", |(registry, _)| registry)
    }

    /// Registry and path.
    fn name(&self) -> &str {
        &self.text[..self.version_at]
    }

    /// The tag, if there is no digest.
    fn tag(&self) -> Option<&str> {
        self.text[self.version_at..].strip_prefix(':')
    }

    /// The digest, if the reference has one: then it always means the same image.
    pub fn digest(&self) -> Option<&str> {
        self.text[self.version_at..].strip_prefix('@')
    }

    /// The reference to another document of the same repository.
    pub fn with_digest(&self, digest: &impl fmt::Display) -> ImageReference {
        ImageReference { text: format!("{}@{digest}", self.name()), version_at: self.version_at }
    }

    /// The name of its profile if the user chooses none: the last part of the path, and the tag unless it is `latest`.
    ///
    /// # Errors
    /// `Usage` if that is no name for a profile.
    pub fn profile_name(&self) -> Result<ProfileName, Refusal> {
        let last = self.name().rsplit('/').next().unwrap_or_default();
        let digits = self.digest().and_then(|digest| digest.split_once(':')?.1.get(..SHORT_DIGEST));
        let version = digits.or(self.tag().filter(|tag| *tag != LATEST));
        ProfileName::of_words(&format!("{last} {}", version.unwrap_or_default()))
    }
}

impl FromStr for ImageReference {
    type Err = Refusal;

    fn from_str(typed: &str) -> Result<ImageReference, Refusal> {
        let refuse = |why: &str| {
            Refusal::new(RefusalKind::Usage, format!("{typed:?} does not name an image: {why}"))
                .hint("name one as in 'alpine:3.19' or 'registry.example:5000/team/app@sha256:...'")
        };
        let text = typed.strip_prefix("docker://").unwrap_or(typed);
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) if is_digest(digest) => (text, Some(digest)),
            Some(_) => return Err(refuse("what follows '@' is no SHA-256 or SHA-512 digest")),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (text, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse(
                "the tag has other characters than letters, digits, '_', '.' and '-'",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                (first, rest)
            }
            _ => (DOCKER_HUB, name),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        if !is_host(registry) {
            return Err(refuse("its registry is not a host"));
        }
        let is_official = registry == DOCKER_HUB && !path.contains('/');
        let path = if is_official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if !path.split('/').all(is_path_part) {
            return Err(refuse(
                "names are lower-case letters and digits, with '.', '_' or '-' between them",
            ));
        }
        if registry.len() + 1 + path.len() > MAX_NAME {
            return Err(refuse("it is too long"));
        }
        // With both, the digest counts, as in docker.
        let name = format!("{registry}/{path}");
        let text = match digest {
            Some(digest) => format!("{name}@{digest}"),
            None => format!("{name}:{}", tag.unwrap_or(LATEST)),
        };
        Ok(ImageReference { text, version_at: name.len() })
    }
}

impl TryFrom<String> for ImageReference {
    type Error = Refusal;

    fn try_from(text: String) -> Result<ImageReference, Refusal> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.text
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_digest(text: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.split_once(':').is_some_and(|(algorithm, digits)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        digits.len() == length && digits.bytes().all(is_hex)
    })
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(is_word)
        && text.len() <= MAX_TAG
        && text.bytes().all(|b| is_word(b) || b".-".contains(&b))
}

/// Whether `text` is a host name or an IPv4 address, perhaps with a port.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether `text` can be between two slashes: words that '.', '_', '__' or hyphens separate.
fn is_path_part(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_end = |b: Option<u8>| b.is_some_and(is_plain);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_end(text.bytes().next())
        && is_end(text.bytes().last())
        && separators
            .into_iter()
            .all(|s| ["", ".", "_", "__"].contains(&s) || s.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{DIGITS}");
        for (typed, complete, profile) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine"),
            ("alpine:3.19", "docker.io/library/alpine:3.19", "alpine-3-19"),
            ("docker://alpine", "docker.io/library/alpine:latest", "alpine"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine"),
            ("team/My_App:v1", "", ""),
            ("team/my_app:V1", "docker.io/team/my_app:V1", "my-app-v1"),
            ("localhost/a", "localhost/a:latest", "a"),
            ("host:5000/a/b:tag", "host:5000/a/b:tag", "b-tag"),
            ("quay.io/x", "quay.io/x:latest", "x"),
            ("127.0.0.1:5000/x--y/z__w.v", "127.0.0.1:5000/x--y/z__w.v:latest", "z-w-v"),
        ] {
            match typed.parse::<ImageReference>() {
                Ok(parsed) => {
                    assert_eq!(parsed.to_string(), complete, "{typed}");
                    assert_eq!(parsed.profile_name().unwrap().as_str(), profile, "{typed}");
                    assert_eq!(complete.parse(), Ok(parsed), "{typed}");
                }
                Err(refusal) => assert_eq!(complete, "", "{typed}: {refusal}"),
            }
        }
        for typed in [format!("alpine@{digest}"), format!("alpine:3.19@{digest}")] {
            let parsed: ImageReference = typed.parse().unwrap();
            assert_eq!(parsed.to_string(), format!("docker.io/library/alpine@{digest}"));
            assert_eq!(parsed.digest(), Some(&*digest));
            assert_eq!(parsed.profile_name().unwrap().as_str(), "alpine-ba7816bf8f01");
        }
    }

    #[test]
    fn nothing_else_becomes_an_argument() {
        let long = "a".repeat(MAX_NAME);
        for bad in [
            "",
            "-x",
            "--authfile=x",
            "a b",
            "a\nb",
            "A",
            "a:",
            "a:-x",
            "a:b:c",
            "a//b",
            "/a",
            "a/",
            "a@",
            "a@sha256:x",
            "a@md5:00",
            "a-",
            "a..b",
            "a___b",
            "é",
            "oci:a@b",
            "http://a.b/c",
            "x.y:99999/a",
            "-.y/a",
            "x.y:/a",
            "../a",
            "a/../b",
            &long,
        ] {
            let refused = bad.parse::<ImageReference>();
            assert!(refused.is_err(), "{bad:?}: {refused:?}");
        }
    }
}
