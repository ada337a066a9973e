//! Checks that a program can be the first process of a guest, which has no libraries.

use anyhow::{Context, Result, bail};

/// The type of the program header that names a dynamic loader (`PT_INTERP`, System V gABI).
const PT_INTERP: u32 = 3;

/// Checks that `elf` is a 64-bit ELF program that needs no dynamic loader.
pub fn check(elf: &[u8]) -> Result<()> {
    if elf.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        bail!("it is not a 64-bit ELF program");
    }
    let number = |at: usize, size: usize| -> Result<u64> {
        let bytes = elf.get(at..).and_then(|rest| rest.get(..size)).context("it is cut short")?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    // e_phoff, e_phentsize, e_phnum.
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = table.checked_add(index * size).context("its header is damaged")?;
        if number(usize::try_from(at)?, 4)? == u64::from(PT_INTERP) {
            bail!("it is dynamically linked, and a guest's first process must be static");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_and_damaged_programs_are_refused() {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        check(&elf).unwrap();
        elf[64] = PT_INTERP as u8;
        assert!(check(&elf).unwrap_err().to_string().contains("static"));
        (elf[56], elf[57]) = (255, 255);
        elf[64] = 1;
        assert!(check(&elf).unwrap_err().to_string().contains("cut short"));
        assert!(check(b"#!/bin/sh\n").is_err());
    }
}
