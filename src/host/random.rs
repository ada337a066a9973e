//! Random bytes from the kernel.

use anyhow::{Context, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes from the kernel's generator. Takes no descriptor, so it works where there are none left.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error).context("cannot get random bytes"),
        };
    }
    Ok(bytes)
}

/// The same, written as two hex digits for each byte.
pub fn hex<const N: usize>() -> Result<String> {
    Ok(bytes::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
