//! Random bytes from the kernel.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes from the kernel's generator. It needs no descriptor, so this works when the limit on open files
/// is reached.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Err(Errno::INTR) => 0,
            result => result?,
        };
    }
    Ok(bytes)
}

/// The same, written as two hexadecimal digits for each byte.
pub fn hex<const N: usize>() -> io::Result<String> {
    Ok(to_hex(&bytes::<N>()?))
}

/// Two hexadecimal digits for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_two_digits_and_no_two_are_alike() {
        let texts = [hex::<16>().unwrap(), hex::<16>().unwrap()];
        assert_ne!(texts[0], texts[1]);
        for text in texts {
            assert_eq!(text.len(), 32);
            assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{text}");
        }
    }
}
