//! Prints what was measured as a table, and writes it as JSON.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::options::Options;
use crate::samples::Samples;

/// The goal of a measurement.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most this much, independent of the floor.
    Within(f64),
    /// At most this many times the floor.
    Ratio(f64),
    /// At least this many times the floor, for rates.
    Rate(f64),
    /// At least this many times as fast as what it is compared with, for times.
    Faster(f64),
    /// At most this many milliseconds more than the floor.
    Extra(f64),
    /// No goal: measured for information.
    None,
}

/// The unit of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Ms,
    MegabytesPerSecond,
    MiB,
    VmsPerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::MiB => "MiB",
            Unit::VmsPerSecond => "VMs/s",
        }
    }
}

/// One line: a measurement, and that of the floor it is compared with.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub unit: Unit,
    pub ours: Samples,
    pub floor_name: String,
    pub floor: Samples,
    pub goal: Goal,
}

/// Everything measured so far.
#[derive(Debug)]
pub struct Report {
    rows: Vec<Row>,
    json: PathBuf,
    parameters: Value,
}

impl Row {
    fn verdict(&self) -> (String, Option<bool>) {
        let (median, ratio) = (self.ours.median(), self.ours.ratio_to(&self.floor));
        let unit = self.unit.name();
        let excess = self.ours.excess_over(&self.floor);
        match self.goal {
            Goal::Within(limit) => (format!("<= {limit} {unit}"), Some(median <= limit)),
            Goal::Ratio(limit) => (format!("<= {limit} x"), Some(ratio <= limit)),
            Goal::Rate(limit) => (format!(">= {limit} x"), Some(ratio >= limit)),
            Goal::Faster(limit) => (format!("{limit} x faster"), Some(ratio * limit <= 1.0)),
            Goal::Extra(limit) => (format!("<= floor + {limit} {unit}"), Some(excess <= limit)),
            Goal::None => (String::new(), None),
        }
    }

    fn to_json(&self) -> Value {
        let (goal, met) = self.verdict();
        json!({
            "name": self.name,
            "unit": self.unit.name(),
            "ours": self.ours.to_json(),
            "floor_name": self.floor_name,
            "floor": self.floor.to_json(),
            "ratio": self.ours.ratio_to(&self.floor),
            "excess": self.ours.excess_over(&self.floor),
            "goal": goal,
            "met": met,
        })
    }
}

impl Report {
    pub fn new(options: &Options) -> Report {
        let parameters = json!({
            "pairs": options.pairs,
            "rounds": options.rounds,
            "samples": options.samples,
            "mib": options.mib,
        });
        println!(
            "{:<40} {:>9}  {:<34} {:>9} {:>7} {:>8}  goal",
            "median", "mayfly", "against", "", "ratio", "excess"
        );
        Report { rows: Vec::new(), json: options.json.clone(), parameters }
    }

    /// Adds a line, and prints it at once, because the next may take minutes.
    pub fn add(&mut self, row: Row) {
        let (goal, met) = row.verdict();
        let met = met.map_or("", |met| if met { "met" } else { "missed" });
        println!(
            "{:<40} {:>9.2}  {:<34} {:>9.2} {:>7.2} {:>+8.2}  {goal} {met}",
            format!("{} ({})", row.name, row.unit.name()),
            row.ours.median(),
            row.floor_name,
            row.floor.median(),
            row.ours.ratio_to(&row.floor),
            row.ours.excess_over(&row.floor),
        );
        self.rows.push(row);
    }

    /// Writes the JSON.
    pub fn finish(&self, host: &Value) -> Result<()> {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        let all = json!({ "host": host, "parameters": self.parameters, "rows": rows });
        let write = || {
            fs::create_dir_all(self.json.parent().unwrap_or(&self.json))?;
            fs::write(&self.json, format!("{all:#}\n"))
        };
        write().with_context(|| format!("cannot write {}", self.json.display()))?;
        println!("\nhost: {host}\nwritten to {}", self.json.display());
        Ok(())
    }
}
