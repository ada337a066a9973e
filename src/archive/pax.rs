//! The records of a pax extended header: what has no room in a tar's own.
//!
//! The `tar` crate's parser takes a value to end at a line end, which a file's name may contain.

use super::entry::FileTime;
use super::reader::ArchiveError;

/// How large an extended header may be: a name and the target of a link, both of the longest, and some.
pub const MAX_SIZE: u64 = 16 * 1024;

/// How many bytes of files follow, in a header for the whole stream. A key of our own, as the standard
/// asks for: in capital letters.
pub const TOTAL: &[u8] = b"MAYFLY.total";

/// `length key=value\n`, the length counting itself.
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

/// A key and its value.
pub type PaxRecord<'a> = (&'a [u8], &'a [u8]);

/// All records.
///
/// # Errors
/// Where they are not what the standard says.
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

/// A time as pax writes it: seconds, with a fraction where there is one.
pub fn write_time(time: FileTime) -> String {
    let FileTime { seconds, nanoseconds } = time;
    match (nanoseconds, seconds < 0) {
        (0, _) => seconds.to_string(),
        (_, false) => format!("{seconds}.{nanoseconds:09}"),
        // The fraction goes forward, the number is written backward.
        (_, true) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// Reads such a time.
///
/// # Errors
/// Where it is none.
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
    fn records_come_back_whatever_is_in_them_and_however_long_they_are() {
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
    fn what_is_no_record_is_refused() {
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
