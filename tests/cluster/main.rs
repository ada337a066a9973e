//! mayfly in jobs of a real Slurm: a controller and two nodes, started by each test and ended with it.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

mod jobs;
mod slurm;
#[path = "../support/mod.rs"]
mod support;
