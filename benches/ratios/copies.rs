//! `run --copy-in` of many files, against the host's own copy of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::in_turns;
use crate::workspace::{Workspace, name_of_run, timed};

/// How many files there are, and how many bytes are in them.
const TREES: [(&str, usize, usize); 2] =
    [("4,000 files", 4_000, 90_000_000), ("20,000 files", 20_000, 500_000_000)];

/// A copy takes seconds.
const ROUNDS: usize = 3;

/// Compares a run of `true` after a copy with one without, to which `times` a copy by two `tar`s is added.
pub fn measure(
    workspace: &Workspace,
    kind: &[&str],
    times: f64,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    for (what, files, bytes) in TREES {
        let tree = workspace.path("tree");
        make_tree(&tree, files, bytes)?;
        let tree = tree.to_str().context("the path is not UTF-8")?;
        let [ours, floor] = in_turns(
            options.rounds.min(ROUNDS),
            [&mut || timed(&mut workspace.run_true(kind, &["--copy-in", tree])), &mut || {
                let run = timed(&mut workspace.run_true(kind, &[]))?;
                Ok(run + times * tar(workspace, tree)?)
            }],
        )?;
        report.add(Row {
            name: format!("{} {what}", name_of_run(kind, &["--copy-in"])),
            unit: Unit::Ms,
            ours,
            floor_name: format!("run, {times} × tar c | tar x"),
            floor,
            goal: Goal::Ratio(1.0),
        });
        fs::remove_dir_all(tree)?;
    }
    Ok(())
}

/// Files whose sizes differ, in some hundred directories.
fn make_tree(root: &Path, files: usize, bytes: usize) -> Result<()> {
    let content: Vec<u8> = (0..2 * bytes / files).map(|at| (at % 251) as u8 + 1).collect();
    for number in 0..files {
        let directory = root.join(format!("{}/{}", number % 100, number / 100 % 10));
        fs::create_dir_all(&directory)?;
        let size = content.len() * (number % 101) / 100;
        fs::write(directory.join(number.to_string()), &content[..size])?;
    }
    Ok(())
}

/// Milliseconds that a copy by two `tar`s takes.
#[expect(clippy::disallowed_methods, reason = "what is measured is a process")]
fn tar(workspace: &Workspace, tree: &str) -> Result<f64> {
    let to = workspace.path("copy");
    fs::create_dir(&to)?;
    let script = "tar -c -C \"$0\" . | tar -x -C \"$1\"";
    let took = timed(Command::new("sh").args(["-c", script, tree]).arg(&to))?;
    fs::remove_dir_all(&to)?;
    Ok(took)
}
