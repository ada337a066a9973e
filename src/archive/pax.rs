//! The records of a pax extended header (POSIX pax(1)): what does not fit into a header of tar.
//!
//! The `tar` crate's parser takes a value to end at a line end, which a file's name may contain.

use super::broken::ArchiveError;
use super::entry::FileTime;

/// How large an extended header of our own streams may be: the longest name and the longest target of a
/// link, and some.
pub const MAX_SIZE: u64 = 16 * 1024;

/// How many bytes of files follow, in a header for the whole stream. The standard asks for capital
/// letters in keys that it does not define.
pub const TOTAL: &[u8] = b"MAYFLY.total";

/// What GNU tar, bsdtar and Go put before the name of an extended attribute.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What GNU tar and bsdtar put before the records of a sparse file.
const SPARSE: &[u8] = b"GNU.sparse.";

/// A member of the second and later volumes of an archive.
pub const CONTINUED: &str = "the rest of a file whose beginning is in another volume";

/// What extended headers say of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaxRecords {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub modified: Option<FileTime>,
    /// Extended attributes by name.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Records of a sparse file in one of GNU tar's three pax forms, without [`SPARSE`] before their keys.
    pub sparse: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the member is if its content is not that of a file.
    pub foreign: Option<&'static str>,
}

impl PaxRecords {
    /// Adds what is in another extended header; later records replace earlier ones, and an empty value
    /// removes them.
    ///
    /// # Errors
    /// [`ArchiveError::Malformed`].
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        // Some writers pad with zeros.
        let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for (key, value) in records(&bytes[..length])? {
            let given = Some(value).filter(|value| !value.is_empty());
            let number = |what| {
                let parse = |value| str::from_utf8(value).ok()?.parse().ok();
                given.map(|value| parse(value).ok_or(ArchiveError::Malformed(what))).transpose()
            };
            match key {
                b"path" => self.path = given.map(<[u8]>::to_vec),
                b"linkpath" => self.link = given.map(<[u8]>::to_vec),
                b"size" => self.size = number("the size of a file")?,
                b"uid" => self.uid = number("a user")?,
                b"gid" => self.gid = number("a group")?,
                b"mtime" => self.modified = given.map(read_time).transpose()?,
                b"SCHILY.realsize" => self.foreign = Some("a sparse file of star"),
                b"SCHILY.filetype" if value == b"sparse" => {
                    self.foreign = Some("a sparse file of star");
                }
                b"SUN.holesdata" => self.foreign = Some("a sparse file of Solaris tar"),
                b"GNU.volume.offset" if value != b"0" => self.foreign = Some(CONTINUED),
                _ => {
                    if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                        self.attributes.push((name.to_vec(), value.to_vec()));
                    } else if let Some(name) = key.strip_prefix(SPARSE) {
                        self.sparse.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Appends `LENGTH KEY=VALUE\n`. The length includes its own digits.
pub fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + digits(length) > length {
        length += 1;
    }
    records.extend(length.to_string().as_bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// A key and a value.
pub type PaxRecord<'a> = (&'a [u8], &'a [u8]);

/// The records of an extended header.
///
/// # Errors
/// [`ArchiveError::Malformed`].
pub fn records(mut bytes: &[u8]) -> Result<Vec<PaxRecord<'_>>, ArchiveError> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = split(bytes).ok_or(ArchiveError::Malformed("an extended header"))?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

fn split(bytes: &[u8]) -> Option<(PaxRecord<'_>, &[u8])> {
    let blank = bytes.iter().take(8).position(|&byte| byte == b' ')?;
    let length: usize = str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    if length <= blank + 1 || length > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

/// A time as pax writes it: seconds, with a fraction if there is one.
pub fn write_time(time: FileTime) -> String {
    let FileTime { seconds, nanoseconds } = time;
    match (nanoseconds, seconds < 0) {
        (0, _) => seconds.to_string(),
        (_, false) => format!("{seconds}.{nanoseconds:09}"),
        // The fraction counts forward, but the number is written as a negative decimal.
        (_, true) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// Parses a time.
///
/// # Errors
/// [`ArchiveError::Malformed`].
pub fn read_time(text: &[u8]) -> Result<FileTime, ArchiveError> {
    parse_time(text).ok_or(ArchiveError::Malformed("a time"))
}

fn parse_time(text: &[u8]) -> Option<FileTime> {
    let text = str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number = |digits: &str| -> Option<i64> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let seconds = number(whole)?;
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds = u32::try_from(number(&fraction)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => FileTime { seconds, nanoseconds },
        (true, 0) => FileTime { seconds: -seconds, nanoseconds },
        (true, _) => FileTime { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_and_content_survive_a_round_trip() {
        for length in (0..120).chain([990, 991, 992, 993, 5000]) {
            let value = vec![b'\n'; length];
            let mut bytes = Vec::new();
            push(&mut bytes, b"path", &value);
            push(&mut bytes, b"mtime", b"1=2");
            assert_eq!(
                records(&bytes).unwrap(),
                [(&b"path"[..], &value[..]), (&b"mtime"[..], &b"1=2"[..])]
            );
        }
    }

    #[test]
    fn records_are_read_whatever_bytes_are_in_them() {
        let capability = b"\x01\x00\x00\x02\n30 path=evil\n\x00";
        let mut bytes = Vec::new();
        for (key, value) in [
            (&b"SCHILY.xattr.security.capability"[..], &capability[..]),
            (b"mtime", b"1700000000.25"),
            (b"path", "f\u{fc}nf".as_bytes()),
            (b"size", b"9000000000"),
            (b"uid", b"7"),
            (b"uid", b""),
        ] {
            push(&mut bytes, key, value);
        }
        bytes.extend([0; 40]);
        let mut records = PaxRecords::default();
        records.update(&bytes).unwrap();
        let expected = PaxRecords {
            path: Some("f\u{fc}nf".into()),
            size: Some(9_000_000_000),
            modified: Some(FileTime { seconds: 1_700_000_000, nanoseconds: 250_000_000 }),
            attributes: vec![(b"security.capability".to_vec(), capability.to_vec())],
            ..PaxRecords::default()
        };
        assert_eq!(records, expected);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b\nx",
            b"99 a=b\n",
            b"5 ab\n",
            b"0 a=b\n",
            b"-6 a=b\n",
            b"2 ",
            b"18446744073709551616 a=b\n",
            b"          6 a=b\n",
            &[0; 40],
        ] {
            assert!(records(bad).is_err(), "{bad:?}");
            assert!(PaxRecords::default().update(bad).is_err() || bad.ends_with(b"\0"), "{bad:?}");
        }
    }

    #[test]
    fn times_keep_their_nanoseconds_on_both_sides_of_1970() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1_700_000_000, 123_456_789, "1700000000.123456789"),
            (1, 5, "1.000000005"),
            (-1, 0, "-1"),
            (-2, 500_000_000, "-1.500000000"),
            (-1, 999_999_999, "-0.000000001"),
        ] {
            let time = FileTime { seconds, nanoseconds };
            assert_eq!(write_time(time), text);
            assert_eq!(read_time(text.as_bytes()).unwrap(), time);
        }
        assert_eq!(read_time(b"3.5").unwrap(), FileTime { seconds: 3, nanoseconds: 500_000_000 });
        for bad in [&b""[..], b"x", b"1.2.3", b"1.x", b"--1", b"+1", b"99999999999999999999"] {
            assert!(read_time(bad).is_err(), "{bad:?}");
        }
    }
}
