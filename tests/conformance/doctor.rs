//! `doctor` names the backend that VMs then use.

use crate::bench::Bench;
use crate::support::answer::Answer;

pub fn doctor_knows_what_vms_run_on(bench: &Bench) {
    if bench.skips("mock is never chosen") {
        return;
    }
    let (other, variable) = match bench.backend {
        "qemu" => ("firecracker", "MAYFLY_FIRECRACKER_BIN"),
        _ => ("qemu", "MAYFLY_QEMU_BIN"),
    };
    let doctor = |more: &[(&str, &str)]| {
        let mut command = bench.env.command(&["doctor"]);
        command.env(variable, "/nowhere").envs(more.iter().copied());
        Answer::new("doctor".into(), command.output().unwrap())
    };
    // One working backend is enough.
    doctor(&[]).prints(&format!(
        "[..]--  {other} [..]\nVMs run here with {}; isolation is {}\n",
        bench.backend, bench.isolation
    ));
    if bench.is_jailed {
        doctor(&[]).prints("[..]\nok  firecracker [..]\n[..]  jailer [..]\nok  cgroups [..]");
        doctor(&[("MAYFLY_JAILER_BIN", "/bin/false")]).is(6, "[..]\nno  jailer [..]", "");
    }
}
