//! Extended headers of tar archives, as POSIX pax(1) defines them.

use anyhow::{Context, Result};

/// What Go's, GNU's and BSD's tar put before the name of an extended attribute.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What an extended header says of the member behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaxRecords {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    /// Whole seconds.
    pub mtime: Option<i64>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub is_sparse: bool,
}

impl PaxRecords {
    /// Reads `LENGTH KEY=VALUE\n` records, the last of a key winning. The length decides where one
    /// ends: a value may hold any byte.
    pub fn parse(mut bytes: &[u8]) -> Result<PaxRecords> {
        let mut records = PaxRecords::default();
        // Some writers pad with zeros.
        while bytes.first().is_some_and(|&byte| byte != 0) {
            let (key, value, rest) =
                split(bytes).context("the archive has a damaged extended header")?;
            records.take(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || -> Result<Option<u64>> {
            // An empty value takes back what was said before.
            if value.is_empty() {
                return Ok(None);
            }
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            number.map(Some).with_context(|| {
                format!("the archive has no number for {}", String::from_utf8_lossy(key))
            })
        };
        match key {
            b"path" => self.path = Some(value.to_owned()),
            b"linkpath" => self.link = Some(value.to_owned()),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = seconds(value),
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                    self.attributes.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(())
    }
}

/// A first record's key and value, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// The whole seconds of a time with a fraction.
fn seconds(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len();
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        [length.to_string().into_bytes(), body].concat()
    }

    #[test]
    fn a_value_may_hold_any_byte() {
        let capability = b"\x01\x00\x00\x02\n30 path=evil\n\x00";
        let bytes = [
            record("SCHILY.xattr.security.capability", capability),
            record("mtime", b"1700000000.25"),
            record("path", "f\u{fc}nf".as_bytes()),
            record("size", b"9000000000"),
        ]
        .concat();
        let records = PaxRecords::parse(&bytes).unwrap();
        assert_eq!(records.path.as_deref(), Some("f\u{fc}nf".as_bytes()));
        assert_eq!(records.attributes, [(b"security.capability".to_vec(), capability.to_vec())]);
        assert_eq!((records.mtime, records.size), (Some(1_700_000_000), Some(9_000_000_000)));
        assert!(!records.is_sparse);
        assert!(PaxRecords::parse(&record("GNU.sparse.major", b"1")).unwrap().is_sparse);
    }

    #[test]
    fn damage_is_an_error() {
        for bad in [
            &b"5"[..],
            b"0 a=b\n",
            b"99 a=b\n",
            b"6 a=b\n\n",
            b"x a=b\n",
            b"5 ab\n",
            b"18446744073709551615 a=b\n",
        ] {
            assert!(PaxRecords::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(PaxRecords::parse(&record("size", b"-1")).is_err());
        assert_eq!(PaxRecords::parse(b"\0\0\0").unwrap(), PaxRecords::default());
    }
}
