//! The seal of a JSON file: the digest of its content, as its last member. A file with a wrong byte can
//! still be JSON and have a meaning; the seal proves that it was written so.

use sha2::{Digest, Sha256};

use crate::sys::random;

const BEFORE: &str = ",\"seal\":\"";
const AFTER: &str = "\"}\n";

/// The length of the digest in hexadecimal digits.
const DIGITS: usize = 64;

/// Adds the seal to a JSON object that has members.
pub fn seal(mut object: Vec<u8>) -> Vec<u8> {
    let digest = random::to_hex(&Sha256::digest(&object));
    if object.last() == Some(&b'}') {
        object.pop();
    }
    for part in [BEFORE, &digest, AFTER] {
        object.extend_from_slice(part.as_bytes());
    }
    object
}

/// Takes the seal off; `None` if the bytes do not end in one.
///
/// # Errors
/// They were not sealed as they are, for display.
pub fn unseal(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    Ok(sealed_part(bytes)?.map(|members| [members, b"}"].concat()))
}

/// Checks the seal, without copying what it is for; `false` if the bytes do not end in one.
///
/// # Errors
/// As for [`unseal`].
pub fn has_seal(bytes: &[u8]) -> Result<bool, String> {
    Ok(sealed_part(bytes)?.is_some())
}

/// The object that was sealed, without its last byte.
fn sealed_part(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let start = bytes.len().checked_sub(BEFORE.len() + DIGITS + AFTER.len());
    let Some((members, end)) = start.and_then(|start| bytes.split_at_checked(start)) else {
        return Ok(None);
    };
    if !end.starts_with(BEFORE.as_bytes()) {
        return Ok(None);
    }
    let digest = Sha256::new().chain_update(members).chain_update(b"}").finalize();
    let digest = random::to_hex(&digest);
    if end[BEFORE.len()..] != [digest.as_bytes(), AFTER.as_bytes()].concat() {
        return Err("it does not match its seal".into());
    }
    Ok(Some(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_object_is_json_and_gives_back_what_was_sealed() {
        let object = br#"{"a":{"seal":"b"}}"#;
        let sealed = seal(object.to_vec());
        let json: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        assert_eq!(json["seal"].as_str().unwrap().len(), DIGITS);
        assert_eq!(unseal(&sealed), Ok(Some(object.to_vec())));
        assert_eq!(has_seal(&sealed), Ok(true));
        for unsealed in [&object[..], b"{}", b""] {
            assert_eq!(unseal(unsealed), Ok(None));
            assert_eq!(has_seal(unsealed), Ok(false));
        }
    }
}
