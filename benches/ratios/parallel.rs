//! Many VMs, each started, used and deleted, by several workers at the same time.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use anyhow::Result;

use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::Samples;
use crate::workspace::{Workspace, timed};

/// Numbers of workers; the first is the floor of the others.
const WORKERS: [usize; 3] = [1, 2, 4];

/// Measures VMs per second for each number of VMs and of workers.
pub fn measure(
    workspace: &Workspace,
    kind: &[&str],
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    for &vms in &options.parallel {
        let mut alone = Samples::default();
        for workers in WORKERS {
            let rate = Samples(vec![rate(workspace, kind, vms, workers)?]);
            if workers == WORKERS[0] {
                alone = rate.clone();
            }
            report.add(Row {
                name: format!("{vms} runs, {workers} at a time"),
                unit: Unit::VmsPerSecond,
                ours: rate,
                floor_name: "one at a time".into(),
                floor: alone.clone(),
                goal: Goal::None,
            });
        }
    }
    Ok(())
}

fn rate(workspace: &Workspace, kind: &[&str], vms: usize, workers: usize) -> Result<f64> {
    let (begun, taken) = (Instant::now(), AtomicUsize::new(0));
    let work = || -> Result<()> {
        while taken.fetch_add(1, Relaxed) < vms {
            timed(&mut workspace.run_true(kind, &[]))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().expect("a worker panicked"));
        done.collect::<Result<Vec<()>>>()
    })?;
    Ok(vms as f64 / begun.elapsed().as_secs_f64())
}
