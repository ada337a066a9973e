//! Filling the pool again after a command has ended, in a process of its own that nothing waits for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fill::{self, fill_one};
use crate::commands::AppContext;
use crate::commands::flags::machine::MachineFlags;
use crate::host::launcher::{self, LaunchProgram, LaunchSpec};
use crate::host::signals::PendingSignals;
use crate::host::{atomic_file, clock, log};
use crate::image::ProgressSink;
use crate::lifecycle::{self, CreateRequest, FillLock, VmManager};
use crate::model::{PoolKind, Refusal, VmRecord};
use crate::settings::Settings;

/// In the state directory: errors since the last refill that worked.
const LOG: &str = "pool.log";

/// Variables that the process gets, besides mayfly's. Others, such as those of `make`, may name what it does not have.
const VARIABLES: [&str; 6] = ["HOME", "LOGNAME", "PATH", "TERM", "TMPDIR", "USER"];

/// Starts a process that fills the pool with VMs like `vm`, which was made for `request`, if the user wants that and
/// too few wait. The process keeps nothing of this one's: no file, no lock, no terminal. What prevents it is only
/// logged, because the user's command has ended well.
pub fn refill(app: &AppContext, manager: &VmManager, vm: &VmRecord, request: &CreateRequest) {
    let Some(count) = app.settings.flags.pool.filter(|count| *count > 0) else { return };
    let template = vm.state.instance().and_then(|instance| instance.template.as_deref());
    let Some(kind) = PoolKind::of(&vm.manifest, template) else { return };
    let started = || {
        if lifecycle::waiting(manager, &kind)? < count as usize {
            spawn(&app.settings, request, count)?;
        }
        Ok(())
    };
    if let Err(error) = started() {
        write_log(&app.settings, &error);
    }
}

/// The log of refills, if one has failed since the last that worked.
pub fn log_with_errors(settings: &Settings) -> Option<PathBuf> {
    let path = settings.directories.state.join(LOG);
    path.metadata().is_ok_and(|meta| meta.len() > 0).then_some(path)
}

/// What the process does: fills the pool, unless another one does.
pub(super) fn serve(app: &AppContext, machine: MachineFlags, count: u32) -> Result<u8> {
    match fill(app, machine, count) {
        Ok(true) => atomic_file::remove_if_there(&app.settings.directories.state.join(LOG))?,
        Ok(false) => {}
        Err(error) => write_log(&app.settings, &error),
    }
    Ok(0)
}

/// Returns whether this process has filled the pool.
fn fill(app: &AppContext, machine: MachineFlags, count: u32) -> Result<bool> {
    let (manager, request) = (app.open()?, fill::request(machine)?);
    let kind = lifecycle::kind_of(&manager, &request, &mut NoBuild)?;
    let Some(_lock) = FillLock::try_acquire(&manager, &kind)? else { return Ok(false) };
    let mut signals = PendingSignals::block()?;
    // Others may take VMs as fast as they are made; then the end of a later command continues.
    for _ in 0..2 * count {
        if lifecycle::waiting(&manager, &kind)? >= count as usize {
            break;
        }
        fill_one(app, &manager, &request, &mut signals)?;
    }
    Ok(true)
}

/// A refill builds no image, because no user would see the progress.
struct NoBuild;

impl ProgressSink for NoBuild {
    fn phase(&mut self, _: &str, _: usize, _: usize) {}

    fn detail(&mut self, _: &str) {}

    fn note(&mut self, _: &str) {}

    fn cancelled(&self) -> bool {
        true
    }
}

fn write_log(settings: &Settings, error: &anyhow::Error) {
    let path = settings.directories.state.join(LOG);
    log::trim(&path);
    let text = Refusal::lines(error).join("; ");
    let now = clock::unix_time().as_secs();
    // There is nowhere else to report an error.
    let _ = log::open_to_append(&path).and_then(|mut log| Ok(writeln!(log, "{now} {text}")?));
}

fn spawn(settings: &Settings, request: &CreateRequest, count: u32) -> Result<()> {
    let nowhere = || {
        File::options().read(true).write(true).open("/dev/null").context("cannot open /dev/null")
    };
    let program = LaunchProgram {
        path: PathBuf::from("/proc/self/exe"),
        args: arguments(settings, request, count)?,
        env: variables(),
        cwd: directory(settings)?,
        ..LaunchProgram::default()
    };
    let launch =
        LaunchSpec { program, files: Vec::new(), output: Some(nowhere()?), log: nowhere()? };
    launcher::spawn(launch, None)?.release()?;
    Ok(())
}

fn variables() -> Vec<(String, String)> {
    let is_wanted = |name: &str| {
        VARIABLES.contains(&name) || name.starts_with("MAYFLY_") || name.starts_with("XDG_")
    };
    let all = std::env::vars_os();
    let texts =
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| is_wanted(name)).collect()
}

/// Where the process runs: at `/`, so that it keeps no file system busy, unless a setting is relative.
fn directory(settings: &Settings) -> Result<PathBuf> {
    let flags = &settings.flags;
    let config = std::env::var_os("MAYFLY_CONFIG").map(PathBuf::from);
    let programs = [&flags.qemu_bin, &flags.firecracker_bin, &flags.jailer_bin].into_iter();
    // A name without a slash is looked up in PATH.
    let programs = programs.filter(|path| path.components().count() > 1).map(PathBuf::as_path);
    let files = [config.as_deref(), flags.profiles.as_deref()].into_iter().flatten();
    if programs.chain(files).all(Path::is_absolute) {
        return Ok(PathBuf::from("/"));
    }
    std::env::current_dir().context("cannot find the working directory")
}

fn arguments(settings: &Settings, request: &CreateRequest, count: u32) -> Result<Vec<String>> {
    let (flags, directories) = (&settings.flags, &settings.directories);
    let mut args: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: Option<String>| {
        args.extend(value.map(|value| format!("--{flag}={value}")));
    };
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    add("state-dir", Some(text(&directories.state)?));
    add("artifacts-dir", Some(text(&directories.artifacts)?));
    add("runtime-dir", Some(text(&directories.runtime)?));
    add("profiles", flags.profiles.as_deref().map(text).transpose()?);
    add("qemu-bin", Some(text(&flags.qemu_bin)?));
    add("firecracker-bin", Some(text(&flags.firecracker_bin)?));
    add("jailer-bin", Some(text(&flags.jailer_bin)?));
    add("backend", Some(flags.backend.to_string()));
    add("accel", flags.accel.map(|accel| accel.to_string()));
    args.extend(["pool", "fill", "--refill"].map(str::to_owned));
    let mut add = |flag: &str, value: Option<String>| {
        args.extend(value.map(|value| format!("--{flag}={value}")));
    };
    add("count", Some(count.to_string()));
    add("profile", Some(request.profile.clone()));
    add("vcpus", request.vcpu_count.map(|count| count.to_string()));
    add("mem", request.mem.map(|mem| mem.0.to_string()));
    add("disk", request.disk.map(|disk| disk.0.to_string()));
    add("require", request.require.map(|require| require.to_string()));
    add("no-jailer", request.no_jailer.then(|| "yes".to_owned()));
    add("net", request.network.mode.map(|mode| mode.to_string()));
    for rule in &request.network.allow {
        add("allow", Some(rule.to_string()));
    }
    Ok(args)
}
