//! Strings of the operating system: bytes, nearly always UTF-8.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An argument, a path or a variable. In JSON it is a string if it is UTF-8, else `{"base64": "…"}`, so that
/// any bytes can be sent.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WireText(pub Vec<u8>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Plain(String),
    Bytes { base64: String },
}

#[derive(Serialize)]
struct Bytes {
    base64: String,
}

impl WireText {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl Serialize for WireText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Bytes { base64: BASE64_STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for WireText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Wire::deserialize(deserializer)? {
            Wire::Plain(text) => Ok(WireText(text.into_bytes())),
            Wire::Bytes { base64 } => {
                BASE64_STANDARD.decode(base64).map(WireText).map_err(de::Error::custom)
            }
        }
    }
}

impl fmt::Debug for WireText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_os_str().fmt(f)
    }
}

impl From<&str> for WireText {
    fn from(text: &str) -> Self {
        WireText(text.into())
    }
}

impl From<String> for WireText {
    fn from(text: String) -> Self {
        WireText(text.into_bytes())
    }
}

impl From<OsString> for WireText {
    fn from(text: OsString) -> Self {
        WireText(text.into_vec())
    }
}

impl From<&OsStr> for WireText {
    fn from(text: &OsStr) -> Self {
        WireText(text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_json() {
        for bytes in [&b""[..], b"plain", "z\u{fc}rich".as_bytes(), b"\xff\x00\xfe"] {
            let json = serde_json::to_string(&WireText(bytes.to_vec())).unwrap();
            assert_eq!(serde_json::from_str::<WireText>(&json).unwrap().as_bytes(), bytes);
        }
        assert_eq!(serde_json::to_string(&WireText::from("a b")).unwrap(), r#""a b""#);
    }
}
