//! Every state of a VM with every operation and every fate of its process.

use std::collections::BTreeSet;

use super::reconcile::{DIED, INTERRUPTED, REBOOTED, RecordRepair, observe, repair};
use super::record::reason;
use super::{
    BootId, ClockReading, NetworkMode, NetworkProcess, NetworkReport, PoolKind, ProcessId,
    ProcessLiveness, ProcessPlace, Refusal, RefusalKind, VmExpiry, VmInstance, VmManifest, VmPhase,
    VmRecord,
};

pub fn process(pid: i32) -> ProcessId {
    ProcessId { pid, start_ticks: 7, boot_id: BootId("this".into()), place: None }
}

fn instance(pid: i32) -> VmInstance {
    VmInstance::new(process(pid))
}

fn network(pid: i32) -> NetworkProcess {
    NetworkProcess { process: process(pid), published: vec!["8080:80".parse().unwrap()] }
}

pub fn record(state: VmPhase) -> VmRecord {
    let boot_id = BootId("this".into());
    VmRecord {
        manifest: VmManifest::sample(),
        expiry: VmExpiry { expires_at: 60.0, expires_boottime: 60.0, boot_id },
        state,
        command: None,
        waits: None,
        network: NetworkReport::default(),
    }
}

/// Seconds after the boot and the creation of [`record`].
pub fn now(seconds: f64) -> ClockReading {
    ClockReading { unix: seconds, boottime: seconds, boot_id: BootId("this".into()) }
}

fn removing(instance: Option<VmInstance>, reason: &str) -> VmPhase {
    VmPhase::Removing { instance, reason: reason.into() }
}

fn stopped(last_error: Option<&str>) -> VmPhase {
    VmPhase::Stopped { last_error: last_error.map(str::to_owned) }
}

/// Every state, with and without the data it may have.
fn states() -> [VmPhase; 11] {
    [
        VmPhase::Creating,
        VmPhase::Created,
        VmPhase::Starting { instance: None },
        VmPhase::Starting { instance: Some(instance(1)) },
        VmPhase::Started { instance: instance(1) },
        VmPhase::Stopping { instance: instance(1) },
        stopped(None),
        stopped(Some("it broke")),
        removing(None, reason::EXPIRED),
        removing(Some(instance(1)), reason::EXPIRED),
        VmPhase::Pooled { instance: instance(1) },
    ]
}

/// The state after one operation on each of [`states`]; `None` if it is refused.
fn check_operation(
    operation: impl Fn(&mut VmRecord) -> Result<(), Refusal>,
    expected: [Option<VmPhase>; 11],
) {
    for (before, expected) in states().into_iter().zip(expected) {
        let mut record = record(before.clone());
        let result = operation(&mut record);
        assert_eq!(result.is_ok(), expected.is_some(), "from {before:?}: {result:?}");
        let refused = expected.is_none();
        assert_eq!(record.state, expected.unwrap_or(before.clone()), "from {before:?}");
        if refused {
            assert_eq!(record, self::record(before));
        }
    }
}

#[test]
fn every_operation_from_every_state() {
    let started = || Some(VmPhase::Started { instance: instance(1) });
    let starting = |instance| Some(VmPhase::Starting { instance });
    let stopping = || Some(VmPhase::Stopping { instance: instance(1) });
    const NO: Option<VmPhase> = None;

    let created = Some(VmPhase::Created);
    check_operation(VmRecord::finish_create, [created, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO]);
    check_operation(
        VmRecord::begin_start,
        [NO, starting(None), NO, NO, NO, NO, starting(None), starting(None), NO, NO, NO],
    );
    let launched = starting(Some(instance(2)));
    check_operation(
        |record| record.launched(instance(2)),
        [NO, NO, launched, NO, NO, NO, NO, NO, NO, NO, NO],
    );
    check_operation(VmRecord::finish_start, [NO, NO, NO, started(), NO, NO, NO, NO, NO, NO, NO]);
    check_operation(
        |record| record.begin_stop().map(|ended| assert_eq!(ended, instance(1))),
        [NO, NO, NO, stopping(), stopping(), stopping(), NO, NO, NO, NO, NO],
    );
    for error in [None, Some("why")] {
        let down = || Some(stopped(error));
        check_operation(
            |record| record.finish_stop(error.map(str::to_owned)),
            [NO, down(), down(), down(), down(), down(), NO, NO, NO, NO, NO],
        );
    }
    // A helper joins a VMM that is on record, or takes the place of another.
    let with_helper = || VmInstance { network: Some(network(3)), ..instance(1) };
    let joined =
        [starting(Some(with_helper())), Some(VmPhase::Started { instance: with_helper() })];
    let [in_start, running] = joined;
    check_operation(
        |record| {
            record.networked(network(2))?;
            record.networked(network(3))
        },
        [NO, NO, NO, in_start, running, NO, NO, NO, NO, NO, NO],
    );
    // A VM at rest may get another name and another end, and nothing else of it changes.
    let at_rest: [Option<VmPhase>; 11] = {
        let mut states = states().map(Some);
        for index in [0, 2, 3, 5, 8, 9, 10] {
            states[index] = None;
        }
        states
    };
    check_operation(|record| record.rename("ci".parse().unwrap()), at_rest.clone());
    check_operation(|record| record.extend(&now(0.0), 90).map(|by| assert_eq!(by, 30)), at_rest);
    let pooled = Some(VmPhase::Pooled { instance: instance(1) });
    check_operation(VmRecord::offer, [NO, NO, NO, NO, pooled, NO, NO, NO, NO, NO, NO]);
    let taken = starting(Some(instance(1)));
    check_operation(
        |record| record.take(&VmManifest::sample(), &now(0.0)),
        [NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, taken],
    );
    // Always possible, and the first reason stays.
    let going = |instance| Some(removing(instance, reason::EXPLICIT));
    let mut expected: [Option<VmPhase>; 11] = std::array::from_fn(|_| going(None));
    expected[3..6].fill_with(|| going(Some(instance(1))));
    expected[10] = going(Some(instance(1)));
    expected[8] = Some(removing(None, reason::EXPIRED));
    expected[9] = Some(removing(Some(instance(1)), reason::EXPIRED));
    let remove = |record: &mut VmRecord| {
        record.begin_remove(reason::EXPLICIT);
        Ok(())
    };
    check_operation(remove, expected);
}

#[test]
fn a_taken_vm_is_the_takers_but_for_its_id_and_the_users_of_its_processes() {
    let mut pooled = record(VmPhase::Started { instance: instance(1) });
    pooled.manifest.owner = Some(process(5));
    pooled.manifest.in_pool = true;
    pooled.manifest.vmm_uid = Some(7);
    pooled.manifest.network_uid = Some(8);
    pooled.offer().unwrap();
    assert_eq!(pooled.manifest.owner, None);
    let refusal = pooled.running().unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::WrongState);
    assert!(refusal.hint.unwrap().contains("pool drain"));

    let wanted = VmManifest {
        vm_id: "0123456789ab".parse().unwrap(),
        name: Some("ci".parse().unwrap()),
        ttl_seconds: 90,
        keep: true,
        owner: Some(process(6)),
        ..VmManifest::sample()
    };
    let mut taken = pooled.clone();
    taken.take(&wanted, &now(30.0)).unwrap();
    let expected = VmManifest {
        vm_id: pooled.manifest.vm_id.clone(),
        vmm_uid: Some(7),
        network_uid: Some(8),
        created_at: 30.0,
        ..wanted
    };
    assert_eq!(taken.manifest, expected);
    assert_eq!((taken.expiry.expires_at, taken.has_expired(&now(119.0))), (120.0, false));
}

#[test]
fn only_a_vm_that_differs_in_nothing_fixed_fits() {
    let template = Some("t");
    let waiting = |change: &dyn Fn(&mut VmManifest)| {
        let mut waiting = record(VmPhase::Pooled {
            instance: VmInstance { template: template.map(str::to_owned), ..instance(1) },
        });
        waiting.manifest.image = "abc".into();
        change(&mut waiting.manifest);
        waiting
    };
    let same = waiting(&|_| {});
    let kind = PoolKind::of(&same.manifest, template).unwrap();
    assert!(kind.fits(&same, &now(0.0)) && !kind.fits(&same, &now(56.0)), "it ends soon");
    assert!(!kind.fits(&record(VmPhase::Started { instance: instance(1) }), &now(0.0)));
    // These are set when it is taken.
    let other = waiting(&|vm| (vm.ttl_seconds, vm.keep, vm.vmm_uid) = (900, true, Some(7)));
    assert!(kind.fits(&other, &now(0.0)));
    assert_eq!(PoolKind::of(&other.manifest, template).unwrap().text(), kind.text());
    let differences: [&dyn Fn(&mut VmManifest); 9] = [
        &|vm| vm.profile = "other".parse().unwrap(),
        &|vm| vm.image = "abd".into(),
        &|vm| vm.vcpu_count = 2,
        &|vm| vm.mem_mib = 512,
        &|vm| vm.disk_mib = Some(1024),
        &|vm| vm.nested = true,
        &|vm| vm.jailed = true,
        &|vm| vm.network.mode = NetworkMode::Egress,
        &|vm| vm.network.allow = vec!["example.org".parse().unwrap()],
    ];
    for (index, change) in differences.iter().enumerate() {
        let other = waiting(change);
        assert!(!kind.fits(&other, &now(0.0)), "difference {index}");
        let others = PoolKind::of(&other.manifest, template).unwrap();
        assert!(others.fits(&other, &now(0.0)) && others.text() != kind.text());
    }
    let of_other_template = PoolKind::of(&same.manifest, Some("u")).unwrap();
    assert!(!of_other_template.fits(&same, &now(0.0)));
    let mut publishing = same.manifest.clone();
    publishing.network.publish = vec!["0:80".parse().unwrap()];
    assert_eq!(PoolKind::of(&publishing, template), None);
    assert_eq!(PoolKind::of(&same.manifest, None), None, "it boots");
    assert!(PoolKind::of(&VmManifest::sample(), None).is_some(), "mock");
}

#[test]
fn a_helper_stays_on_record_until_both_processes_are_proven_gone() {
    let mut record = record(VmPhase::Starting { instance: Some(instance(1)) });
    record.manifest.network.publish = vec!["0:80".parse().unwrap()];
    let published = |record: &VmRecord| record.published()[0].host_port;
    assert_eq!(published(&record), 0);
    record.networked(network(2)).unwrap();
    let pids = |record: &VmRecord| -> Vec<i32> {
        let instance = record.state.instance();
        instance.into_iter().flat_map(VmInstance::processes).map(|process| process.pid).collect()
    };
    let mut removed = record.clone();
    removed.begin_remove(reason::EXPIRED);
    assert_eq!(pids(&removed), [1, 2]);
    record.finish_start().unwrap();
    assert_eq!((pids(&record), published(&record)), (vec![1, 2], 8080));
    record.begin_stop().unwrap();
    assert_eq!(pids(&record), [1, 2]);
    record.finish_stop(None).unwrap();
    assert_eq!((pids(&record), published(&record)), (vec![], 0));
}

#[test]
fn every_state_has_a_name_that_is_known() {
    let elsewhere = VmPhase::Elsewhere { place: place("other", "1", 5) };
    assert!(serde_json::to_string(&elsewhere).is_err(), "it is never recorded");
    let names: BTreeSet<&str> = states().iter().chain([&elsewhere]).map(VmPhase::name).collect();
    assert_eq!(names, VmPhase::NAMES.into());
}

#[test]
fn only_a_started_vm_runs_commands_and_the_others_say_why_not() {
    for state in states() {
        let record = record(state.clone());
        match record.running() {
            Ok(running) => assert_eq!(state, VmPhase::Started { instance: running.clone() }),
            Err(refusal) => {
                assert!(refusal.message.contains(state.name()), "{refusal}");
                assert!(refusal.hint.is_some());
            }
        }
    }
}

#[test]
fn every_state_with_every_fate_of_its_process() {
    use ProcessLiveness::{Alive, Dead, Elsewhere, OtherBoot};
    use RecordRepair::{Keep, Remove, RollBack, Stop};
    let broken = || Stop(Some(INTERRUPTED));
    let rebooted = || Stop(Some(REBOOTED));
    // Without a recorded process, then alive, dead, and of another boot.
    let table: [[RecordRepair; 4]; 11] = [
        [RollBack, RollBack, RollBack, rebooted()],
        [Keep, Keep, Keep, rebooted()],
        [broken(), broken(), broken(), rebooted()],
        [broken(), broken(), broken(), rebooted()],
        [Stop(Some(DIED)), Keep, Stop(Some(DIED)), rebooted()],
        [Stop(None), Stop(None), Stop(None), rebooted()],
        [Keep, Keep, Keep, rebooted()],
        [Keep, Keep, Keep, rebooted()],
        [Remove, Remove, Remove, Remove],
        [Remove, Remove, Remove, Remove],
        // No user has it yet.
        [RollBack, Keep, RollBack, RollBack],
    ];
    for (state, row) in states().into_iter().zip(table) {
        for (fate, expected) in
            [None, Some(Alive), Some(Dead), Some(OtherBoot)].into_iter().zip(row)
        {
            assert_eq!(repair(&state, fate), expected, "{state:?}, {fate:?}");
            assert_eq!(repair(&state, Some(Elsewhere)), Keep, "{state:?}");
            if state.instance().is_some() == fate.is_some() {
                check_repaired(&state, fate, &expected);
                check_observed(&state, fate, &expected);
            }
        }
    }
}

fn place(host: &str, machine_id: &str, pid_namespace: u64) -> ProcessPlace {
    ProcessPlace { host: host.into(), machine_id: Some(machine_id.into()), pid_namespace }
}

#[test]
fn a_process_is_elsewhere_on_another_host_or_in_another_pid_namespace() {
    let here = place("a", "1", 5);
    let [this, other] = ["this", "other"].map(|boot| BootId(boot.into()));
    // The place of the process, then whether it is elsewhere, and on another host, in the same boot and in another.
    let cases = [
        (place("a", "1", 5), [false, false], [false, false]),
        // The host was renamed, or read its machine id later; the kernel is the same.
        (place("b", "1", 5), [false, false], [true, true]),
        (place("a", "2", 5), [false, false], [true, true]),
        // A container. After a reboot, it is gone.
        (place("a", "1", 6), [true, false], [false, false]),
        (place("b", "2", 6), [true, false], [true, true]),
    ];
    for (place, in_this_boot, in_another) in cases {
        let process = ProcessId { place: Some(place), ..process(1) };
        for (boot, expected) in [(&this, in_this_boot), (&other, in_another)] {
            let seen = [process.is_elsewhere(&here, boot), process.is_on_another_host(&here, boot)];
            assert_eq!(seen, expected, "{process:?} in {boot:?}");
        }
    }
    assert!(!process(1).is_elsewhere(&here, &other), "an old record belongs to its reader");
}

#[test]
fn what_is_elsewhere_is_shown_so_and_refused_with_its_host() {
    let process = ProcessId { place: Some(place("node-7", "1", 5)), ..process(1) };
    let instance = VmInstance::new(process.clone());
    let by_command = VmRecord { command: Some(process), ..record(VmPhase::Creating) };
    for record in [record(VmPhase::Started { instance }), by_command] {
        let seen = observe(record, Some(ProcessLiveness::Elsewhere));
        assert_eq!((seen.state.name(), seen.state.is_up()), ("elsewhere", true));
        let refusal = seen.running().unwrap_err();
        assert!(
            refusal.kind == RefusalKind::Busy && refusal.message.contains("node-7"),
            "{refusal}"
        );
    }
}

/// A repaired record needs no second repair, whether its process is gone or rightly alive.
fn check_repaired(state: &VmPhase, fate: Option<ProcessLiveness>, verdict: &RecordRepair) {
    let mut record = record(state.clone());
    match verdict {
        RecordRepair::Keep => {}
        RecordRepair::Stop(error) => record.finish_stop(error.map(str::to_owned)).unwrap(),
        RecordRepair::RollBack | RecordRepair::Remove => return,
    }
    let fate = fate.filter(|_| record.state.instance().is_some());
    assert_eq!(repair(&record.state, fate), RecordRepair::Keep, "{state:?}");
}

/// A reader sees what is recorded, except for a started VM that is not alive.
fn check_observed(state: &VmPhase, fate: Option<ProcessLiveness>, verdict: &RecordRepair) {
    let seen = observe(record(state.clone()), fate).state;
    match (state, verdict) {
        (VmPhase::Started { .. }, RecordRepair::Stop(error)) => assert_eq!(seen, stopped(*error)),
        (VmPhase::Pooled { .. }, RecordRepair::RollBack) => assert_eq!(seen, stopped(Some(DIED))),
        _ => assert_eq!(&seen, state),
    }
}
