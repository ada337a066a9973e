//! How fast mayfly is, as ratios against bare counterparts measured in the same run.
//!
//! Times of one machine say little about another, and on a busy one little about themselves. So
//! every number here is taken in turns with its floor (a bare VMM on the same files, a bare round
//! trip on the same line, a process that does nothing), and what counts is the ratio. Nothing fails
//! on a slow machine: goals are printed as met or missed.
//!
//! `make bench`, or `cargo bench --bench ratios -- --help` for the parameters.

mod bare;
mod cold;
mod crowd;
mod facts;
mod memory;
mod numbers;
mod options;
mod others;
mod plot;
#[path = "../../tests/support/programs.rs"]
mod programs;
mod registries;
mod report;
mod running;
mod startup;
mod streams;
mod template;
mod warm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mayfly::host::gate;
use mayfly::host::signals::PendingSignals;
use mayfly::model::BackendChoice;

use bare::Bench;
use options::{Options, Part};
use report::Report;
use warm::Contest;
use workspace::{FIRECRACKER, FIRECRACKER_UNJAILED, QEMU, Workspace};

fn main() -> ExitCode {
    // Where a floor is a jailed VMM: its launcher.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == gate::ARGUMENT) {
        let Err(error) = gate::wait_and_become();
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
    // Ctrl-C ends the commands under measurement, whose failure ends this in good order.
    let mut signals = PendingSignals::block()?;
    let mut report = Report::new(options);
    let workspace = Workspace::new()?;
    if options.wants(Part::Startup) {
        startup::measure(&workspace, options, &mut report)?;
    }
    if options.wants(Part::Registry) {
        registries::measure(&workspace, options, &mut report)?;
    }
    if options.wants_vms() {
        of_qemu(&workspace, options, &mut signals, &mut report)?;
    }
    if options.wants(Part::Firecracker) {
        of_firecracker(&workspace, options, &mut signals, &mut report)?;
    }
    report.finish(&facts::collect()?)
}

fn of_qemu(
    workspace: &Workspace,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let bench = Bench::prepare(BackendChoice::Qemu, false)?;
    if options.wants(Part::Cold) {
        cold::measure(workspace, &bench, QEMU, options, signals, report)?;
    }
    if options.wants(Part::Warm)
        && let Some(template) = template::of(workspace, &bench, QEMU)?
    {
        let others = others::usable(workspace, options);
        let contest = Contest { bench: &bench, kind: QEMU, template: &template, others: &others };
        let costs = warm::measure(workspace, &contest, options, signals, report)?;
        plot::draw(&costs, &options.plot)?;
    }
    if options.wants(Part::Memory) {
        memory::measure(workspace, QEMU, report)?;
    }
    if options.wants(Part::Crowd) {
        crowd::measure(workspace, QEMU, options, report)?;
    }
    if options.wants(Part::Exec) {
        running::measure(workspace, options, signals, report)?;
    }
    if options.wants(Part::Stream) {
        streams::measure(workspace, &bench, options, signals, report)?;
    }
    Ok(())
}

/// In a jail, as root's VMs are, and out of it, each against a floor of its kind.
fn of_firecracker(
    workspace: &Workspace,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    for (kind, jailed) in [(FIRECRACKER, true), (FIRECRACKER_UNJAILED, false)] {
        let bench = Bench::prepare(BackendChoice::Firecracker, jailed)?;
        cold::measure(workspace, &bench, kind, options, signals, report)?;
        if let Some(template) = template::of(workspace, &bench, kind)? {
            let contest = Contest { bench: &bench, kind, template: &template, others: &[] };
            warm::measure(workspace, &contest, options, signals, report)?;
        }
    }
    memory::measure(workspace, FIRECRACKER, report)?;
    crowd::measure(workspace, FIRECRACKER, options, report)
}
