//! The content of a file to send, which must have exactly the size that its header says.

use std::fs::File;
use std::io::{self, Read};

/// Bytes that are read before the header is written. Smaller files are sent whole, whatever size they had a moment
/// before.
const HEAD: u64 = 64 * 1024;

/// The largest file whose size is not known before it is read, in bytes. They are kept in memory.
const MAX_UNKNOWN: u64 = 64 << 20;

/// Reads the beginning of a file into `head`, and returns the size of the file: `claimed`, which is what `stat`
/// says, only if there is more. `/proc` and `/sys` claim 0 or 4096 for any file, and other files change while
/// they are read.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it goes on for too long after its claimed size, and those of reading.
pub fn measure(file: &mut File, claimed: u64, head: &mut Vec<u8>) -> io::Result<u64> {
    head.clear();
    let mut read = file.by_ref().take(HEAD).read_to_end(head)? as u64;
    if read == HEAD && claimed > read {
        return Ok(claimed);
    }
    if read == HEAD {
        read += file.by_ref().take(MAX_UNKNOWN).read_to_end(head)? as u64;
    }
    if read > MAX_UNKNOWN {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn measured(path: &str, claimed: u64) -> (io::Result<u64>, usize) {
        let mut head = vec![7];
        let size = measure(&mut File::open(path).unwrap(), claimed, &mut head);
        (size, head.len())
    }

    #[test]
    fn a_size_is_what_was_read_unless_there_is_more() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let head = HEAD as usize;
        for (bytes, claimed, size, kept) in [
            (0, 0, 0, 0),
            (5, 0, 5, 5),
            (5, 4096, 5, 5),
            (head - 1, 1 << 40, head - 1, head - 1),
            (head, 0, head, head),
            (head + 1, 0, head + 1, head + 1),
            (head + 1, 3, head + 1, head + 1),
            (3 * head, 3 * head, 3 * head, head),
            // It is noticed when it is sent.
            (2 * head, 3 * head, 3 * head, head),
            (3 * head, 2 * head, 2 * head, head),
        ] {
            file.as_file().set_len(0).unwrap();
            file.as_file_mut().write_all(&vec![b'x'; bytes]).unwrap();
            let path = file.path().to_str().unwrap();
            let (found, held) = measured(path, claimed as u64);
            assert_eq!((found.unwrap(), held), (size as u64, kept), "{bytes} {claimed}");
            std::io::Seek::rewind(file.as_file_mut()).unwrap();
        }
        let (size, held) = measured("/proc/self/status", 0);
        assert!(size.unwrap() == held as u64 && held > 100);
        assert_eq!(measured("/dev/zero", 0).0.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
