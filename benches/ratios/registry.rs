//! `status`, `create` and `rm` with registries of different sizes.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use mayfly::host::{clock, process};
use mayfly::model::{VmExpiry, VmInstance, VmManifest, VmPhase, VmRecord};
use mayfly::registry::{Registry, RegistryChange};

use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::{Samples, in_turns, ms_since};
use crate::workspace::{Workspace, manifest, timed};

/// Numbers of VMs; the largest is the one mayfly is designed for.
const SIZES: [usize; 3] = [10, 100, 1000];

/// The goal for the ratio of times with the largest and the smallest registry. It is not 1, because the
/// file is read and written as a whole.
const FLAT: f64 = 1.5;

/// Measures `status` as a table and as JSON, and `create` with `rm`, which change the registry.
pub fn measure(workspace: &Workspace, options: &Options, report: &mut Report) -> Result<()> {
    for size in SIZES {
        fill(workspace, size)?;
    }
    let version = |_: &str| timed(&mut workspace.mayfly("s", &["--version"]));
    let table = |state: &str| timed(&mut workspace.mayfly(state, &["status"]));
    let json = |state: &str| timed(&mut workspace.mayfly(state, &["status", "--json"]));
    for (verb, take) in [("status", &table as &dyn Fn(&str) -> _), ("status --json", &json)] {
        let (ours, floor) = by_size(options.samples, take, &version)?;
        for (size, ours) in SIZES.into_iter().zip(ours) {
            let name = format!("{verb}, {size} VMs");
            let floor = floor.clone();
            report.add(Row {
                name,
                unit: Unit::Ms,
                ours,
                floor_name: "start-up".into(),
                floor,
                goal: Goal::Within(10.0),
            });
        }
    }
    let create_and_rm = |state: &str| create_and_rm(workspace, state);
    let (ours, _) = by_size(options.samples, &create_and_rm, &version)?;
    let floor = ours[0].clone();
    for (size, ours) in SIZES.into_iter().zip(ours).skip(1) {
        let name = format!("create + rm, {size} VMs");
        let floor_name = format!("the same, {} VMs", SIZES[0]);
        let (floor, goal) = (floor.clone(), Goal::Ratio(FLAT));
        report.add(Row { name, unit: Unit::Ms, ours, floor_name, floor, goal });
    }
    Ok(())
}

/// Samples of `take` for each size, alternating with each other and with `floor`.
fn by_size(
    count: usize,
    take: &dyn Fn(&str) -> Result<f64>,
    floor: &dyn Fn(&str) -> Result<f64>,
) -> Result<([Samples; 3], Samples)> {
    let [small, middle, large] = SIZES.map(state_of);
    let [a, b, c, floor] = in_turns(
        count,
        [&mut || take(&small), &mut || take(&middle), &mut || take(&large), &mut || floor("s")],
    )?;
    Ok(([a, b, c], floor))
}

fn create_and_rm(workspace: &Workspace, state: &str) -> Result<f64> {
    let begun = Instant::now();
    let id = workspace.create(state, &["--backend", "mock"])?;
    timed(&mut workspace.mayfly(state, &["rm", id.as_str()]))?;
    Ok(ms_since(begun))
}

fn state_of(size: usize) -> String {
    format!("s{size}")
}

/// Fills a registry with started VMs whose process is alive, the case that needs the most checks.
fn fill(workspace: &Workspace, size: usize) -> Result<()> {
    let registry = Registry::open(&workspace.path(&state_of(size)))?;
    let (now, alive) = (clock::now()?, process::identify_self()?);
    registry.update(|contents| {
        for number in 0..size {
            let manifest = VmManifest {
                name: Some(format!("vm-{number}").parse()?),
                ttl_seconds: 3600,
                created_at: now.unix + number as f64,
                image: "0".repeat(64),
                metadata: BTreeMap::from([
                    ("kernel_image".into(), "/var/lib/mayfly/artifacts/x/vmlinux".into()),
                    ("rootfs_image".into(), "/var/lib/mayfly/artifacts/x/rootfs.ext4".into()),
                ]),
                ..manifest()?
            };
            let record = VmRecord {
                expiry: VmExpiry::after(&now, manifest.ttl_seconds),
                state: VmPhase::Started { instance: VmInstance::new(alive.clone()) },
                manifest,
                command: None,
                waits: None,
                network: mayfly::model::NetworkReport::default(),
            };
            contents.vms.insert(record.id().clone(), record);
        }
        Ok(((), RegistryChange::Made))
    })
}
