//! The start-up time of mayfly, which every command pays.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::in_turns;
use crate::workspace::{Workspace, timed};

/// Compares `mayfly --version` with a process that does nothing.
pub fn measure(workspace: &Workspace, options: &Options, report: &mut Report) -> Result<()> {
    let [ours, floor] = in_turns(
        options.samples,
        [&mut || timed(&mut workspace.mayfly("s", &["--version"])), &mut || timed(&mut bin_true())],
    )?;
    let (name, floor_name) = ("start-up".into(), "/bin/true".into());
    report.add(Row { name, unit: Unit::Ms, ours, floor_name, floor, goal: Goal::Within(3.0) });
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what is measured is a process")]
fn bin_true() -> Command {
    let mut command = Command::new("/bin/true");
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}
