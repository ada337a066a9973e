//! `run` in a new VM that starts from a template, against a cold run and other tools.

use std::time::Instant;

use anyhow::Result;
use mayfly::host::signals::PendingSignals;
use mayfly::template::LockedTemplate;

use crate::bare::{BareLauncher, BareVm, BusyboxGuest};
use crate::cold::COLD;
use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::{Sampler, Samples, all_in_turns, in_turns, ms_since};
use crate::tools::{ComparedTool, Tool};
use crate::workspace::{QEMU, Workspace, name_of_run, timed};

/// Rounds with tools that take half a minute.
const SLOW_ROUNDS: usize = 3;

/// What running `true` takes, in milliseconds.
#[derive(Debug)]
pub struct RunTimes {
    pub warm: Samples,
    /// A bare VMM that starts from the same template.
    pub floor: Samples,
    pub cold: Samples,
    pub others: Vec<(Tool, Samples)>,
}

/// What is compared.
pub struct WarmComparison<'a> {
    pub launcher: &'a BareLauncher,
    /// The flags that select mayfly's backend.
    pub kind: &'a [&'a str],
    /// The template that both mayfly and the bare VMM start from.
    pub template: &'a LockedTemplate,
    pub others: &'a [ComparedTool],
}

/// Compares a warm `run` of `true` with a bare restore of the same files and the same command, with a cold
/// run, and with other tools.
pub fn measure(
    workspace: &Workspace,
    comparison: &WarmComparison,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<RunTimes> {
    let &WarmComparison { launcher, kind, template, others } = comparison;
    let frozen = template.files();
    let mut warm = || timed(&mut workspace.run_true(kind, &[]));
    let mut floor = || from_restore_to_end(launcher.restore(workspace, &frozen)?, signals);
    let mut cold = || timed(&mut workspace.run_true(kind, COLD));
    let (slow, quick): (Vec<_>, Vec<_>) = others.iter().partition(|other| other.tool.is_slow());
    let mut quick_takes: Vec<_> = quick.iter().map(|other| || other.take()).collect();
    let busybox = busybox(workspace, comparison);
    let mut answer = || launcher.busybox_answer(workspace, busybox.as_ref().expect("it is taken"));

    let mut takes: Vec<Sampler> = vec![&mut warm, &mut floor, &mut cold];
    takes.extend(quick_takes.iter_mut().map(|take| take as Sampler));
    if busybox.is_some() {
        takes.push(&mut answer);
    }
    let mut taken = all_in_turns(options.rounds, &mut takes)?.into_iter();
    let mut next = || taken.next().expect("each sampler has samples");
    let mut times = RunTimes { warm: next(), floor: next(), cold: next(), others: Vec::new() };
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
    add(&times.warm, "bare restore, true, kill", &times.floor, Goal::Ratio(1.3));
    add(&times.warm, &name_of_run(kind, COLD), &times.cold, Goal::Faster(8.0));
    for other in quick {
        let samples = next();
        add(&times.warm, other.tool.name(), &samples, Goal::None);
        times.others.push((other.tool, samples));
    }
    if busybox.is_some() {
        add(&times.warm, "busybox in place of the agent", &next(), Goal::Ratio(1.2));
    }
    for other in slow {
        let rounds = options.rounds.min(SLOW_ROUNDS);
        let [beside, samples] = in_turns(rounds, [&mut warm, &mut || other.take()])?;
        add(&beside, other.tool.name(), &samples, Goal::None);
        times.others.push((other.tool, samples));
    }
    Ok(times)
}

/// A guest with busybox in place of the agent, for VMs on QEMU.
fn busybox(workspace: &Workspace, comparison: &WarmComparison) -> Option<BusyboxGuest> {
    if comparison.kind != QEMU {
        return None;
    }
    let made = comparison.launcher.freeze_busybox(workspace);
    made.inspect_err(|error| eprintln!("bench: busybox is not measured: {error:#}")).ok()
}

/// What a bare VMM takes from its start until `true` has ended and it is killed.
pub fn from_restore_to_end(mut vm: BareVm, signals: &mut PendingSignals) -> Result<f64> {
    let (ready, begun) = (vm.ready_ms, Instant::now());
    vm.exec(&["true"], signals)?;
    drop(vm);
    Ok(ready + ms_since(begun))
}
