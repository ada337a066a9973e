//! A description of the host.

use std::fs;
use std::path::Path;

use anyhow::Result;
use mayfly::host::kvm::KvmSupport;
use mayfly::host::which;
use serde_json::{Value, json};

/// Everything that must be equal for two reports to be comparable.
pub fn collect() -> Result<Value> {
    let cpu_info = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim().to_owned());
    let load = fs::read_to_string("/proc/loadavg")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let qemu = which::output(Path::new("qemu-system-x86_64"), &["--version"]);
    let firecracker = which::output(Path::new("firecracker"), &["--version"]);
    let first_line = |said: String| said.lines().next().map(str::to_owned);
    Ok(json!({
        "cpu": model,
        "cores": std::thread::available_parallelism()?.get(),
        "kernel": kernel.trim(),
        "kvm": KvmSupport::probe().problem().is_none(),
        "qemu": qemu.ok().and_then(first_line),
        "firecracker": firecracker.ok().and_then(first_line),
        "mayfly": env!("CARGO_PKG_VERSION"),
        // Runnable tasks, averaged over 1, 5 and 15 minutes: how busy the host was.
        "load": load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    }))
}
