//! Temporary directories for the commands that are measured, and how to run commands with them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mayfly::model::{Accelerator, BackendKind, VmId, VmInstance, VmManifest, VmPaths};
use mayfly::registry::Registry;
use mayfly::sys::random;
use tempfile::TempDir;

use crate::programs;
use crate::samples::ms_since;

/// Flags of `create` and `run` for VMs on QEMU.
pub const QEMU: &[&str] = &["--backend", "qemu"];

/// The same for VMs on Firecracker, with a jail if root runs the benchmark.
pub const FIRECRACKER: &[&str] = &["--backend", "firecracker"];

/// The same for VMs on Firecracker without a jail.
pub const FIRECRACKER_UNJAILED: &[&str] = &["--backend", "firecracker", "--no-jailer"];

/// The name of a run of `true` with these flags.
pub fn name_of_run(kind: &[&str], flags: &[&str]) -> String {
    [&["run"], &kind[1..], flags].concat().join(" ")
}

/// The manifest of a VM that the benchmark makes without `mayfly create`.
pub fn manifest() -> Result<VmManifest> {
    Ok(VmManifest {
        vm_id: VmId::from_random(random::bytes()?),
        name: None,
        profile: "debian-base".parse()?,
        vcpu_count: 1,
        mem_mib: 1024,
        disk_mib: None,
        ttl_seconds: 600,
        created_at: 0.0,
        backend: BackendKind::Qemu,
        accelerator: Accelerator::Tcg,
        keep: false,
        image: String::new(),
        nested: false,
        jailed: false,
        vmm_uid: None,
        network: Default::default(),
        network_uid: None,
        owner: None,
        in_pool: false,
        metadata: Default::default(),
        labels: Default::default(),
    })
}

/// A temporary directory with state and runtime directories; deleted when dropped.
#[derive(Debug)]
pub struct Workspace {
    base: TempDir,
}

impl Workspace {
    pub fn new() -> Result<Workspace> {
        // Below /tmp whatever TMPDIR says: socket paths must be short.
        let base = tempfile::Builder::new().prefix("mfb").tempdir_in("/tmp")?;
        Ok(Workspace { base })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// The directory of the image, which is shared with the tests, because building one takes half a minute.
    pub fn artifacts() -> PathBuf {
        let given = ["MAYFLY_TEST_ARTIFACTS", "MAYFLY_ARTIFACTS_DIR"];
        match given.into_iter().find_map(std::env::var_os) {
            Some(directory) => directory.into(),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-artifacts"),
        }
    }

    /// mayfly with the state directory of this name, and without the caller's environment, which could
    /// change what it does.
    #[expect(clippy::disallowed_methods, reason = "what is measured is a process")]
    pub fn mayfly(&self, state: &str, args: &[&str]) -> Command {
        let mut command = Command::new(programs::mayfly());
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MAYFLY_STATE_DIR", self.path(state))
            .env("MAYFLY_RUNTIME_DIR", self.path("r"))
            .env("MAYFLY_ARTIFACTS_DIR", Workspace::artifacts())
            .env("MAYFLY_MAX_ACTIVE_VMS", "1000000")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs `mayfly create` with these flags.
    pub fn create(&self, state: &str, flags: &[&str]) -> Result<VmId> {
        let mut create = self.mayfly(state, &[&["create"], flags].concat());
        let created = create.stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
        let id = String::from_utf8(created.context("cannot run mayfly")?.stdout)?;
        Ok(id.trim().parse()?)
    }

    /// Creates a VM of this kind and starts it with these flags.
    pub fn start_vm(&self, kind: &[&str], flags: &[&str]) -> Result<RunningVm<'_>> {
        let vm = RunningVm { workspace: self, id: self.create("s", kind)? };
        timed(&mut self.mayfly("s", &[&["start", vm.id.as_str()], flags].concat()))?;
        Ok(vm)
    }

    /// `mayfly run` of `true` in a VM of this kind, with more flags.
    pub fn run_true(&self, kind: &[&str], flags: &[&str]) -> Command {
        self.mayfly("s", &[&["run"], kind, flags, &["--", "true"]].concat())
    }
}

/// A VM of mayfly's that is used for several measurements; deleted when dropped.
#[derive(Debug)]
pub struct RunningVm<'a> {
    workspace: &'a Workspace,
    pub id: VmId,
}

impl RunningVm<'_> {
    /// `mayfly exec --keep`, with flags and the command.
    pub fn exec(&self, flags: &[&str], argv: &[&str]) -> Command {
        let args = [&["exec", "--keep", self.id.as_str()], flags, &["--"], argv].concat();
        self.workspace.mayfly("s", &args)
    }

    /// Its process, from the registry.
    pub fn instance(&self) -> Result<VmInstance> {
        let contents = Registry::open_to_read(&self.workspace.path("s"))?.read()?;
        Ok(contents.get(&self.id)?.running()?.clone())
    }

    /// Its directories and sockets.
    pub fn paths(&self) -> Result<VmPaths> {
        // The runtime directory has one directory per state directory, and only one state directory has VMs.
        let mut runs = std::fs::read_dir(self.workspace.path("r"))?;
        let run = runs.next().context("the VM has no sockets")??.path();
        Ok(VmPaths::new(&self.workspace.path("s"), &run, &self.id))
    }
}

impl Drop for RunningVm<'_> {
    fn drop(&mut self) {
        let _ = self.workspace.mayfly("s", &["rm", "-f", "-q", self.id.as_str()]).status();
    }
}

/// Runs a command, and returns the milliseconds it took.
pub fn timed(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    let taken = ms_since(begun);
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(taken)
}
