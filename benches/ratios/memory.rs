//! How much of the host's memory a VM takes that starts from a template.

use std::fs;

use anyhow::{Context, Result};

use crate::cold::COLD;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::Samples;
use crate::workspace::{Workspace, timed};

/// How many copies run at the same time. With only one, the template's pages would count as private.
const COPIES: usize = 4;

/// A VMM's memory in MiB.
struct Memory {
    private: f64,
    shared: f64,
}

/// Compares the memory of VMs from a template, after one command, with that of a VM that has booted.
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

/// The sum of all lines with this prefix, in MiB; the lines are in KiB.
fn sum(text: &str, prefix: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.sum::<f64>() / 1024.0
}
