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
mod facts;
mod numbers;
mod options;
#[path = "../../tests/support/programs.rs"]
mod programs;
mod registries;
mod report;
mod running;
mod startup;
mod streams;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mayfly::host::signals::Signals;
use mayfly::model::BackendChoice;

use options::{Options, Part};
use report::Report;
use workspace::Workspace;

fn main() -> ExitCode {
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
    let mut signals = Signals::block()?;
    let mut report = Report::new(options);
    let workspace = Workspace::new()?;
    if options.wants(Part::Startup) {
        startup::measure(&workspace, options, &mut report)?;
    }
    if options.wants(Part::Registry) {
        registries::measure(&workspace, options, &mut report)?;
    }
    if options.wants_vms() {
        let bench = bare::Bench::prepare(BackendChoice::Qemu)?;
        if options.wants(Part::Cold) {
            let run = ["run", "--backend", "qemu", "--", "true"];
            cold::measure(&workspace, &bench, &run, options, &mut signals, &mut report)?;
        }
        if options.wants(Part::Exec) {
            running::measure(&workspace, options, &mut signals, &mut report)?;
        }
        if options.wants(Part::Stream) {
            streams::measure(&workspace, &bench, options, &mut signals, &mut report)?;
        }
    }
    if options.wants(Part::Firecracker) {
        let bench = bare::Bench::prepare(BackendChoice::Firecracker)?;
        for jail in [&[][..], &["--no-jailer"]] {
            let run = [&["run", "--backend", "firecracker"], jail, &["--", "true"]].concat();
            cold::measure(&workspace, &bench, &run, options, &mut signals, &mut report)?;
        }
    }
    report.finish(&facts::collect()?)
}
