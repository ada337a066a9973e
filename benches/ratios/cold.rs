//! `run` in a new VM that boots.

use std::time::Instant;

use anyhow::Result;
use mayfly::host::signals::PendingSignals;

use crate::bare::BareLauncher;
use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::{Samples, in_turns, ms_since};
use crate::workspace::{Workspace, name_of_run, timed};

/// The flags that make a VM boot even if there is a template.
pub const COLD: &[&str] = &["--cold"];

/// Compares a cold `run` of `true` with a bare boot of the same files up to the agent's answer, and with
/// one that also runs the command and ends.
pub fn measure(
    workspace: &Workspace,
    launcher: &BareLauncher,
    kind: &[&str],
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let mut whole = Samples::default();
    let [ours, floor] = in_turns(
        options.pairs,
        [&mut || timed(&mut workspace.run_true(kind, COLD)), &mut || {
            let mut vm = launcher.boot(workspace, false)?;
            let (ready, begun) = (vm.ready_ms, Instant::now());
            vm.exec(&["true"], signals)?;
            drop(vm);
            whole.0.push(ready + ms_since(begun));
            Ok(ready)
        }],
    )?;
    // The first round does not count, as in the other samples.
    whole.0.remove(0);
    let name = || name_of_run(kind, COLD);
    let (to_ready, to_end) = ("bare boot to agent-ready", "bare boot, true, kill");
    report.add(Row {
        name: name(),
        unit: Unit::Ms,
        ours: ours.clone(),
        floor_name: to_ready.into(),
        floor,
        goal: Goal::Ratio(1.15),
    });
    report.add(Row {
        name: name(),
        unit: Unit::Ms,
        ours,
        floor_name: to_end.into(),
        floor: whole,
        goal: Goal::None,
    });
    Ok(())
}
