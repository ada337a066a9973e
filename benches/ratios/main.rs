//! Measures how fast mayfly is, as ratios to bare counterparts in the same run.
//!
//! Times depend on the machine and on its load, ratios much less. Each measurement therefore alternates
//! with its floor: a bare VMM on the same files, a bare round trip on the same line, or a process that does
//! nothing. Nothing fails on a slow machine: goals are printed as met or missed.
//!
//! Run it with `make bench`; `cargo bench --bench ratios -- --help` lists the options.

#![expect(clippy::disallowed_methods, reason = "a benchmark may panic")]

mod bare;
mod cold;
mod copies;
mod exec;
mod host;
mod memory;
mod network;
mod options;
mod parallel;
mod plot;
mod pool;
#[path = "../../tests/support/programs.rs"]
mod programs;
mod registry;
mod report;
mod samples;
mod startup;
mod streams;
mod template;
mod tools;
mod warm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mayfly::host::launcher;
use mayfly::host::signals::PendingSignals;
use mayfly::model::BackendChoice;

use bare::BareLauncher;
use options::{Options, Part};
use report::Report;
use warm::WarmComparison;
use workspace::{FIRECRACKER, FIRECRACKER_UNJAILED, QEMU, Workspace};

fn main() -> ExitCode {
    // A jailed bare VMM starts through a launcher, which is this program again.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == launcher::ARGUMENT) {
        let Err(error) = launcher::wait_and_become();
        eprintln!("bench: {error:#}");
        return ExitCode::FAILURE;
    }
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    // Ctrl-C ends the commands under measurement; their failure ends this program, which then cleans up.
    let mut signals = PendingSignals::block()?;
    let mut report = Report::new(options);
    let workspace = Workspace::new()?;
    if options.wants(Part::Startup) {
        startup::measure(&workspace, options, &mut report)?;
    }
    if options.wants(Part::Registry) {
        registry::measure(&workspace, options, &mut report)?;
    }
    if options.wants_vms() {
        measure_qemu(&workspace, options, &mut signals, &mut report)?;
    }
    if options.wants(Part::Firecracker) {
        measure_firecracker(&workspace, options, &mut signals, &mut report)?;
    }
    report.finish(&host::collect()?)
}

fn measure_qemu(
    workspace: &Workspace,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let launcher = BareLauncher::prepare(BackendChoice::Qemu, false)?;
    if options.wants(Part::Cold) {
        cold::measure(workspace, &launcher, QEMU, options, signals, report)?;
    }
    if options.wants(Part::Warm)
        && let Some(template) = template::of(workspace, &launcher, QEMU)?
    {
        let others = tools::usable(workspace, options);
        let comparison = WarmComparison {
            launcher: &launcher,
            kind: QEMU,
            template: &template,
            others: &others,
        };
        let times = warm::measure(workspace, &comparison, options, signals, report)?;
        plot::draw(&times, &options.plot)?;
    }
    if options.wants(Part::Pool)
        && let Some(template) = template::of(workspace, &launcher, QEMU)?
    {
        pool::measure(workspace, &launcher, QEMU, &template, options, signals, report)?;
    }
    if options.wants(Part::Memory) {
        memory::measure(workspace, QEMU, report)?;
    }
    if options.wants(Part::Parallel) {
        parallel::measure(workspace, QEMU, options, report)?;
    }
    if options.wants(Part::Copies) {
        copies::measure(workspace, QEMU, 1.5, options, report)?;
    }
    if options.wants(Part::Exec) {
        exec::measure(workspace, options, signals, report)?;
    }
    if options.wants(Part::Stream) {
        streams::measure(workspace, &launcher, options, signals, report)?;
    }
    if options.wants(Part::Network) {
        network::measure(workspace, &launcher, options, signals, report)?;
    }
    Ok(())
}

/// Measures jailed VMs, as root's are, and VMs without a jail, each against a floor of the same kind.
fn measure_firecracker(
    workspace: &Workspace,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    for (kind, jailed) in [(FIRECRACKER, true), (FIRECRACKER_UNJAILED, false)] {
        let launcher = BareLauncher::prepare(BackendChoice::Firecracker, jailed)?;
        cold::measure(workspace, &launcher, kind, options, signals, report)?;
        if let Some(template) = template::of(workspace, &launcher, kind)? {
            let comparison =
                WarmComparison { launcher: &launcher, kind, template: &template, others: &[] };
            warm::measure(workspace, &comparison, options, signals, report)?;
        }
    }
    copies::measure(workspace, FIRECRACKER, 2.0, options, report)?;
    memory::measure(workspace, FIRECRACKER, report)?;
    parallel::measure(workspace, FIRECRACKER, options, report)
}
