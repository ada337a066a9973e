//! `run` in a VM that waited in the pool, against a bare restore with its first command, and a cold run.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mayfly::host::signals::PendingSignals;
use mayfly::template::LockedTemplate;

use crate::bare::BareLauncher;
use crate::cold::COLD;
use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::{Samples, in_turns, ms_since};
use crate::warm::from_restore_to_end;
use crate::workspace::{Workspace, name_of_run, timed};

/// The pause between two commands of a user.
const PAUSE: Duration = Duration::from_secs(1);

/// The number of VMs that wait while the user works.
const POOL: &str = "2";

/// Measures single runs, and a sequence of runs with pauses during which the pool is filled again.
pub fn measure(
    workspace: &Workspace,
    launcher: &BareLauncher,
    kind: &[&str],
    template: &LockedTemplate,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let frozen = template.files();
    let fill = || timed(&mut workspace.mayfly("s", &[kind, &["pool", "fill"]].concat()));
    let [pooled, floor, warm, cold] = in_turns(
        // One of them boots.
        options.pairs,
        [
            &mut || fill().and_then(|_| timed(&mut workspace.run_true(kind, &[]))),
            &mut || from_restore_to_end(launcher.restore(workspace, &frozen)?, signals),
            &mut || timed(&mut workspace.run_true(kind, &[])),
            &mut || timed(&mut workspace.run_true(kind, COLD)),
        ],
    )?;
    let name = format!("{} from the pool", name_of_run(kind, &[]));
    let mut add = |ours: &Samples, floor_name: &str, floor: Samples, goal| {
        let (name, ours) = (name.clone(), ours.clone());
        report.add(Row { name, unit: Unit::Ms, ours, floor_name: floor_name.into(), floor, goal });
    };
    add(&pooled, "bare restore, true, kill", floor, Goal::Within(60.0));
    add(&pooled, &name_of_run(kind, &[]), warm.clone(), Goal::Faster(2.0));
    add(&pooled, &name_of_run(kind, COLD), cold, Goal::None);

    let (paused, taken) = with_pauses(workspace, kind, options.pool_runs)?;
    report.add(Row {
        name: format!("{} runs, 1 s apart, {taken} from the pool", options.pool_runs),
        unit: Unit::Ms,
        ours: paused,
        floor_name: name_of_run(kind, &[]),
        floor: Samples(vec![warm.median(); options.pool_runs]),
        goal: Goal::Faster(2.0),
    });
    workspace.mayfly("s", &["pool", "drain", "-q"]).status().context("cannot run mayfly")?;
    Ok(())
}

/// Runs `true` again and again, and counts how often it was in a VM that had waited.
fn with_pauses(workspace: &Workspace, kind: &[&str], count: usize) -> Result<(Samples, usize)> {
    let (mut samples, mut taken) = (Samples::default(), 0);
    for _ in 0..count {
        let mut run = workspace.run_true(kind, &["--json"]);
        let begun = Instant::now();
        let output = run.env("MAYFLY_POOL", POOL).stdout(Stdio::piped()).output();
        samples.0.push(ms_since(begun));
        let answer = String::from_utf8(output.context("cannot run mayfly")?.stdout)?;
        taken += usize::from(answer.contains(r#""pool":"#));
        std::thread::sleep(PAUSE);
    }
    Ok((samples, taken))
}
