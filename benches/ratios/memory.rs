//! What a copy of a frozen VM takes of the host's memory.

use std::fs;

use anyhow::{Context, Result};

use crate::cold::COLD;
use crate::numbers::Samples;
use crate::report::{Goal, Report, Row, Unit};
use crate::workspace::{Workspace, timed};

/// How many are alive at the same time. A page of the template's that only one VMM has mapped would
/// count as private, though the next one shares it.
const COPIES: usize = 4;

/// A VMM's memory in MiB.
struct Memory {
    private: f64,
    shared: f64,
}

/// The memory of VMs from a template after one command, against that of a VM that has booted.
pub fn measure(workspace: &Workspace, kind: &[&str], report: &mut Report) -> Result<()> {
    let take = |flags: &[&str], count: usize| -> Result<Vec<Memory>> {
        let vms: Vec<_> =
            (0..count).map(|_| workspace.start_vm(kind, flags)).collect::<Result<_>>()?;
        for vm in &vms {
            timed(&mut vm.exec(&[], &["true"]))?;
        }
        vms.iter().map(|vm| Memory::of(vm.instance()?.process.pid)).collect()
    };
    let copies = take(&[], COPIES)?;
    let booted = &take(COLD, 1)?[0];
    let mut add = |part: &str, of: fn(&Memory) -> f64, goal| {
        report.add(Row {
            name: format!("{part} memory, {}", kind[1..].join(" ")),
            unit: Unit::MiB,
            ours: Samples(copies.iter().map(of).collect()),
            floor_name: "a VM that has booted".into(),
            floor: Samples(vec![of(booted); COPIES]),
            goal,
        });
    };
    add("private", |memory| memory.private, Goal::Within(40.0));
    add("shared", |memory| memory.shared, Goal::None);
    Ok(())
}

impl Memory {
    fn of(pid: i32) -> Result<Memory> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Memory { private: sum(&text, "Private_"), shared: sum(&text, "Shared_") })
    }
}

/// MiB in all lines that begin so; they are in KiB.
fn sum(text: &str, prefix: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.sum::<f64>() / 1024.0
}
