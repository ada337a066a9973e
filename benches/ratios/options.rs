//! What to measure, and how often.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measure mayfly against bare counterparts.
#[derive(Debug, Parser)]
pub struct Options {
    /// What to measure; by default everything that does not need KVM
    #[arg(value_enum)]
    parts: Vec<Part>,

    /// How many pairs of boots to take, and how many rounds with the pool
    #[arg(long, env = "MAYFLY_BENCH_PAIRS", default_value_t = 7, value_name = "N")]
    pub pairs: usize,

    /// How many rounds to take of a warm run, a cold run, and what they are compared with
    #[arg(long, env = "MAYFLY_BENCH_ROUNDS", default_value_t = 20, value_name = "N")]
    pub rounds: usize,

    /// How many VMs to run in each measurement of parallel runs
    #[arg(
        long,
        env = "MAYFLY_BENCH_PARALLEL",
        value_delimiter = ',',
        default_value = "20,100",
        value_name = "N,…"
    )]
    pub parallel: Vec<usize>,

    /// How many runs to take, a second apart, while the pool is filled again
    #[arg(long, env = "MAYFLY_BENCH_POOL", default_value_t = 20, value_name = "N")]
    pub pool_runs: usize,

    /// The kernel that virtme-ng boots; the host's by default
    #[arg(long, env = "MAYFLY_BENCH_KERNEL", value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// How many samples to take of operations that last milliseconds
    #[arg(long, env = "MAYFLY_BENCH_SAMPLES", default_value_t = 31, value_name = "N")]
    pub samples: usize,

    /// How many MiB to stream in one sample
    #[arg(long, env = "MAYFLY_BENCH_MIB", default_value_t = 64, value_name = "N")]
    pub mib: usize,

    /// Where to write the numbers as JSON
    #[arg(long, env = "MAYFLY_BENCH_JSON", default_value = default_json(), value_name = "FILE")]
    pub json: PathBuf,

    /// Where to draw the comparison of fresh environments, as SVG
    #[arg(long, env = "MAYFLY_BENCH_PLOT", default_value = default_plot(), value_name = "FILE")]
    pub plot: PathBuf,

    /// Ignored; cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Start-up time of mayfly
    Startup,
    /// status, create and rm in registries of 10, 100 and 1,000 VMs
    Registry,
    /// run -- true in a fresh VM that boots
    Cold,
    /// run -- true in a fresh VM from a template, and other tools
    Warm,
    /// run -- true in a VM that waited in the pool
    Pool,
    /// Memory of VMs from a template
    Memory,
    /// run -- true many times, several at a time
    Parallel,
    /// run --copy-in of many files
    Copies,
    /// exec in a running VM
    Exec,
    /// Output and input of a command
    Stream,
    /// Runs with a network, its throughput and its memory
    Network,
    /// The parts from cold to parallel with Firecracker, on a KVM host
    Firecracker,
}

impl Options {
    pub fn wants(&self, part: Part) -> bool {
        let by_default = self.parts.is_empty() && part != Part::Firecracker;
        by_default || self.parts.contains(&part)
    }

    /// Whether any part boots a VM.
    pub fn wants_vms(&self) -> bool {
        let parts = [
            Part::Cold,
            Part::Warm,
            Part::Pool,
            Part::Memory,
            Part::Parallel,
            Part::Copies,
            Part::Exec,
            Part::Stream,
            Part::Network,
        ];
        parts.into_iter().any(|part| self.wants(part))
    }
}

fn default_json() -> String {
    format!("{}/target/bench/ratios.json", env!("CARGO_MANIFEST_DIR"))
}

fn default_plot() -> String {
    format!("{}/target/bench/bench.svg", env!("CARGO_MANIFEST_DIR"))
}
