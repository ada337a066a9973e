//! A command in a machine of its own that goes on from a template, and what else a fresh environment
//! costs.

use std::time::Instant;

use anyhow::Result;
use mayfly::host::signals::PendingSignals;
use mayfly::template::LockedTemplate;

use crate::bare::{BareVm, Bench};
use crate::cold::COLD;
use crate::numbers::{Samples, Take, all_in_turns, in_turns, ms_since};
use crate::options::Options;
use crate::others::{Other, Tool};
use crate::report::{Goal, Report, Row, Unit};
use crate::workspace::{Workspace, name_of_run, timed};

/// Rounds of what takes half a minute.
const SLOW_ROUNDS: usize = 3;

/// What running `true` takes.
#[derive(Debug)]
pub struct Costs {
    pub warm: Samples,
    /// A bare VMM that goes on from the same template.
    pub floor: Samples,
    pub cold: Samples,
    pub others: Vec<(Tool, Samples)>,
}

/// Who is compared.
pub struct Contest<'a> {
    pub bench: &'a Bench,
    /// VMs of mayfly's, as flags.
    pub kind: &'a [&'a str],
    /// What they start from.
    pub template: &'a LockedTemplate,
    pub others: &'a [Other],
}

/// A warm `run` of `true` in a VM of this kind against a bare restore of the same files with the same
/// command, a cold run, and other tools.
pub fn measure(
    workspace: &Workspace,
    contest: &Contest,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<Costs> {
    let &Contest { bench, kind, template, others } = contest;
    let frozen = template.files();
    let mut warm = || timed(&mut workspace.run_true(kind, &[]));
    let mut floor = || from_restore_to_end(bench.restore(workspace, &frozen)?, signals);
    let mut cold = || timed(&mut workspace.run_true(kind, COLD));
    let (slow, quick): (Vec<_>, Vec<_>) = others.iter().partition(|other| other.tool.is_slow());
    let mut quick_takes: Vec<_> = quick.iter().map(|other| || other.take()).collect();

    let mut takes: Vec<Take> = vec![&mut warm, &mut floor, &mut cold];
    takes.extend(quick_takes.iter_mut().map(|take| take as Take));
    let mut taken = all_in_turns(options.rounds, &mut takes)?.into_iter();
    let mut next = || taken.next().expect("there are as many as there are takes");
    let mut costs = Costs { warm: next(), floor: next(), cold: next(), others: Vec::new() };
    let mut add = |ours: &Samples, floor_name: &str, floor: &Samples, goal| {
        report.add(Row {
            name: name_of_run(kind, &[]),
            unit: Unit::Ms,
            ours: ours.clone(),
            floor_name: floor_name.into(),
            floor: floor.clone(),
            goal,
        });
    };
    add(&costs.warm, "bare restore, true, kill", &costs.floor, Goal::Ratio(1.3));
    add(&costs.warm, &name_of_run(kind, COLD), &costs.cold, Goal::Faster(8.0));
    for other in quick {
        let samples = next();
        add(&costs.warm, other.tool.name(), &samples, Goal::None);
        costs.others.push((other.tool, samples));
    }
    for other in slow {
        let rounds = options.rounds.min(SLOW_ROUNDS);
        let [beside, samples] = in_turns(rounds, [&mut warm, &mut || other.take()])?;
        add(&beside, other.tool.name(), &samples, Goal::None);
        costs.others.push((other.tool, samples));
    }
    Ok(costs)
}

fn from_restore_to_end(mut vm: BareVm, signals: &mut PendingSignals) -> Result<f64> {
    let (ready, begun) = (vm.ready_ms, Instant::now());
    vm.exec(&["true"], signals)?;
    drop(vm);
    Ok(ready + ms_since(begun))
}
