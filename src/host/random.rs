//! Random bytes from the kernel.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

/// Bytes from the kernel's generator.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes)
}
