//! The machines that the programs in a tree are for.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::model::{Refusal, RefusalKind};

/// `e_machine` of programs that run on x86-64: its own, and those for i386.
const OURS: [u16; 2] = [62, 3];

/// `e_machine` (System V gABI) and OCI name of other machines that images are made for.
const OTHERS: [(u16, &str); 6] = [
    (183, "arm64"),
    (40, "arm"),
    (243, "riscv64"),
    (22, "s390x"),
    (21, "ppc64le"),
    (258, "loong64"),
];

/// The machines of the ELF programs in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElfMachines(BTreeSet<u16>);

impl ElfMachines {
    /// Takes note of an executable file that begins like this.
    pub fn look(&mut self, start: &[u8]) {
        if start.starts_with(b"\x7fELF")
            && let (Some(&order), Some(&[first, second])) = (start.get(5), start.get(18..20))
        {
            let machine = [first, second];
            self.0.insert(match order {
                2 => u16::from_be_bytes(machine),
                _ => u16::from_le_bytes(machine),
            });
        }
    }

    /// Checks that the programs can run here.
    ///
    /// # Errors
    /// `Host` if there are programs, but none for x86-64.
    pub fn check(&self) -> Result<()> {
        if self.0.is_empty() || OURS.iter().any(|machine| self.0.contains(machine)) {
            return Ok(());
        }
        let names: Vec<String> = self
            .0
            .iter()
            .map(|machine| match OTHERS.iter().find(|(number, _)| number == machine) {
                Some((_, name)) => (*name).to_owned(),
                None => format!("machine {machine}"),
            })
            .collect();
        bail!(
            Refusal::new(
                RefusalKind::Host,
                format!("its programs are for {}, but VMs here are amd64", names.join(", "))
            )
            .hint("import an image for amd64")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: [u8; 2], order: u8) -> Vec<u8> {
        let mut start = vec![0; 64];
        start[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, order]);
        start[18..20].copy_from_slice(&machine);
        start
    }

    #[test]
    fn programs_for_other_machines_are_refused_if_there_are_no_others() {
        let mut machines = ElfMachines::default();
        machines.check().unwrap();
        machines.look(b"#!/bin/sh\n");
        machines.look(b"\x7fELF");
        machines.check().unwrap();
        machines.look(&elf([183, 0], 1));
        machines.look(&elf([0, 22], 2));
        let refused = machines.check().unwrap_err().to_string();
        assert!(refused.contains("s390x, arm64"), "{refused}");
        machines.look(&elf([62, 0], 1));
        machines.check().unwrap();
    }
}
