//! An isolated environment for one test, which must be empty again at its end.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::answer::Answer;
use super::images;
use super::live::Live;
use super::terminal::Sitting;
use super::{logs, processes, programs, traces};

/// The longest that a command may take. The deadline of a boot under emulation is three minutes.
const LIMIT: Duration = Duration::from_secs(240);

/// Whether VMs of all tests boot instead of starting from templates (`MAYFLY_TEST_COLD`).
pub fn starts_cold() -> bool {
    std::env::var_os("MAYFLY_TEST_COLD").is_some_and(|value| !value.is_empty())
}

/// A state directory, a runtime directory, a home, and the variables that name them. mayfly inherits no other variable
/// than `PATH`.
///
/// Dropping it fails if processes or files of VMs are left.
pub struct Environment {
    root: TempDir,
    /// The parent of the runtime directory, if not `root`.
    in_memory: Option<TempDir>,
    variables: Vec<(OsString, OsString)>,
    /// Whether all VMs of this machine belong to tests, so that all their traces can be checked.
    machine_is_ours: bool,
}

impl Environment {
    /// VMs are host processes.
    pub fn mock() -> Environment {
        Environment::with("mock", None)
    }

    /// VMs are emulated machines, which run on any host.
    pub fn qemu() -> Environment {
        Environment::qemu_with("debian-base")
    }

    /// Emulated machines, with the image of another profile built.
    pub fn qemu_with(profile: &str) -> Environment {
        let mut environment = Environment::with("qemu", Some(images::artifacts(profile)));
        environment.set("MAYFLY_ACCEL", "tcg");
        environment
    }

    /// VMs are Firecracker's, on a machine that only runs these tests.
    pub fn firecracker(is_jailed: bool) -> Environment {
        let mut environment =
            Environment::with("firecracker", Some(images::artifacts("debian-base")));
        environment.machine_is_ours = true;
        if !is_jailed {
            environment.set("MAYFLY_NO_JAILER", "1");
        }
        environment
    }

    fn with(backend: &str, artifacts: Option<PathBuf>) -> Environment {
        // Below /tmp and not $TMPDIR, because the paths of sockets must be short.
        let root = tempfile::Builder::new().prefix("mf-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        let artifacts = artifacts.unwrap_or_else(|| root.path().join("artifacts"));
        let mut environment =
            Environment { root, in_memory: None, variables: Vec::new(), machine_is_ours: false };
        environment.set("PATH", std::env::var_os("PATH").unwrap_or_default());
        environment.set("HOME", environment.home());
        environment.set("LC_ALL", "C");
        environment.set("MAYFLY_STATE_DIR", environment.state());
        environment.set("MAYFLY_RUNTIME_DIR", environment.runtime());
        environment.set("MAYFLY_ARTIFACTS_DIR", artifacts);
        environment.set("MAYFLY_BACKEND", backend);
        if starts_cold() {
            environment.set("MAYFLY_COLD", "1");
        }
        environment
    }

    /// Uses templates of its own from now on, not those that all tests share.
    pub fn keep_templates_apart(&mut self) {
        images::apart("debian-base", &self.artifacts());
        self.set("MAYFLY_ARTIFACTS_DIR", self.artifacts());
    }

    /// The directory of its own images and templates.
    pub fn artifacts(&self) -> PathBuf {
        self.root().join("artifacts")
    }

    /// The directory of its images and templates, shared or not.
    pub fn images(&self) -> PathBuf {
        let variable = self.variables.iter().find(|(name, _)| name == "MAYFLY_ARTIFACTS_DIR");
        variable.expect("it is always set").1.clone().into()
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    pub fn runtime(&self) -> PathBuf {
        self.in_memory.as_ref().map_or(self.root(), TempDir::path).join("run")
    }

    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// Moves the runtime directory to a tmpfs, as on a desktop: secrets on the mock backend need that.
    pub fn keep_runtime_in_memory(&mut self) {
        self.in_memory =
            Some(tempfile::Builder::new().prefix("mf-").tempdir_in("/dev/shm").unwrap());
        self.set("MAYFLY_RUNTIME_DIR", self.runtime());
    }

    pub fn registry(&self) -> PathBuf {
        self.state().join("registry.json")
    }

    /// Sets a variable for every later command.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.unset(name.as_ref());
        self.variables.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
    }

    pub fn unset(&mut self, name: impl AsRef<OsStr>) {
        self.variables.retain(|(known, _)| known != name.as_ref());
    }

    /// Writes a file below `root`.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Copies a program into a directory. `cp` does it: a program cannot be executed while a process has it open for
    /// writing, and whatever another test starts meanwhile would inherit a descriptor of this process.
    pub fn copy_program(&self, program: &Path, directory: &Path) -> PathBuf {
        let status = Command::new("cp").args([program, directory]).status().expect("cp runs");
        assert!(status.success(), "cp {} {}", program.display(), directory.display());
        directory.join(program.file_name().unwrap())
    }

    /// Sets `MAYFLY_PROFILES` to a file of this text.
    pub fn profiles(&mut self, text: &str) -> PathBuf {
        let path = self.file("profiles.toml", text);
        self.set("MAYFLY_PROFILES", &path);
        path
    }

    /// A mayfly command that is not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.program(programs::mayfly(), args)
    }

    /// A program with mayfly on its `PATH`, not started yet.
    pub fn client<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Command {
        let mut command = self.program(program, args);
        let ours = programs::mayfly().parent().expect("a program is in a directory").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(ours).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path).unwrap());
        command
    }

    fn program<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, args: &[S]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir(self.root());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs mayfly to its end, without standard input.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Answer {
        self.feed(args, b"")
    }

    /// Runs mayfly to its end, with `input` on its standard input.
    #[track_caller]
    pub fn feed<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Answer {
        finish(self.command(args), input)
    }

    /// Runs a program that calls mayfly to its end, without standard input.
    #[track_caller]
    pub fn run_client<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Answer {
        finish(self.client(program, args), b"")
    }

    /// Starts mayfly without waiting for it.
    pub fn live<S: AsRef<OsStr>>(&self, args: &[S]) -> Live {
        Live::start(self.command(args))
    }

    /// Starts mayfly at a terminal of its own.
    pub fn sit<S: AsRef<OsStr>>(&self, args: &[S]) -> Sitting {
        Sitting::start(self.command(args))
    }

    /// What mayfly prints on a terminal of this width, for a command that succeeds.
    #[track_caller]
    #[must_use]
    pub fn shown_at<S: AsRef<OsStr>>(&self, columns: u16, args: &[S]) -> String {
        let (code, screen) = Sitting::start_at(24, columns, self.command(args)).ends();
        assert_eq!(code, 0, "{screen}");
        screen.replace("\r\n", "\n")
    }

    /// Creates a VM with these flags and returns its id.
    #[track_caller]
    pub fn create(&self, flags: &[&str]) -> String {
        self.run(&[&["create"], flags].concat()).line()
    }

    /// Creates and starts a VM with these flags and returns its id.
    #[track_caller]
    pub fn start(&self, flags: &[&str]) -> String {
        let id = self.create(flags);
        self.run(&["start", &id]).prints(&format!("{id}\n"));
        id
    }

    /// The VM as `status --json` shows it.
    #[track_caller]
    #[must_use]
    pub fn status(&self, vm: &str) -> Value {
        self.run(&["status", "--json", vm]).json()
    }

    /// The ids of all VMs, oldest first.
    #[track_caller]
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let all = self.run(&["status", "--json"]).json();
        let ids = all.as_array().expect("the list is an array").iter();
        ids.map(|vm| vm["vm_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The process on record for a VM.
    #[track_caller]
    pub fn vmm(&self, id: &str) -> i32 {
        self.vmm_if_any(id).unwrap_or_else(|| panic!("no process of {id} on record"))
    }

    /// The process on record for a VM, if there is one.
    pub fn vmm_if_any(&self, id: &str) -> Option<i32> {
        let registry: Value = serde_json::from_slice(&fs::read(self.registry()).unwrap()).unwrap();
        let pid = &registry["vms"][id]["state"]["instance"]["process"]["pid"];
        pid.as_i64().map(|pid| pid as i32)
    }

    /// The process that connects a VM to the network.
    #[track_caller]
    pub fn network_helper(&self, id: &str) -> i32 {
        let pid = self.run(&["inspect", "--json", id]).json()["network_pid"].as_i64();
        pid.expect("there is a helper") as i32
    }

    /// What `status` says about the network of a VM.
    #[track_caller]
    pub fn network(&self, id: &str) -> Value {
        self.status(id)["network"].clone()
    }

    /// Changes the registry, which then has the last schema without a seal.
    #[track_caller]
    pub fn edit_registry(&self, edit: impl FnOnce(&mut Value)) {
        let bytes = fs::read(self.registry()).unwrap();
        let mut registry: Value = serde_json::from_slice(&bytes).unwrap();
        registry["schema"] = 2.into();
        registry.as_object_mut().unwrap().remove("seal");
        edit(&mut registry);
        fs::write(self.registry(), registry.to_string()).unwrap();
    }

    /// Makes a VM expire by moving its end into the past, in the registry.
    #[track_caller]
    pub fn expire(&self, id: &str) {
        self.expire_since(id, 1e9);
    }

    /// Moves a VM's end to this many seconds ago.
    #[track_caller]
    pub fn expire_since(&self, id: &str, seconds: f64) {
        let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
        let boottime = Duration::from(clock).as_secs_f64();
        let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        self.edit_registry(|registry| {
            let expiry = registry["vms"][id]["expiry"].as_object_mut().expect("there is such a VM");
            expiry.insert("expires_at".into(), (unix - seconds).into());
            expiry.insert("expires_boottime".into(), (boottime - seconds).into());
        });
    }

    #[track_caller]
    pub fn rm(&self, vm: &str) {
        self.run(&["rm", vm]).prints(&format!("{vm}\n"));
    }

    /// Describes what VMs have left: processes, files, mounts.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut found: Vec<String> = processes::of_state(&self.state())
            .iter()
            .map(|(pid, line)| format!("process {pid}: {line}"))
            .collect();
        for directory in [self.state().join("vms"), self.state().join("locks"), self.runtime()] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                found.push(entry.path().display().to_string());
            }
        }
        temporary_below(self.root(), &mut found);
        found.extend(traces::mounts(self.root()));
        if self.machine_is_ours {
            found.extend(traces::of_nobody());
        }
        found
    }

    /// Deletes all VMs.
    #[track_caller]
    pub fn clear(&self) {
        for id in self.ids() {
            self.rm(&id);
        }
    }
}

/// Whether mayfly gives this name to files and directories that are not complete yet: new versions of files, images,
/// templates, copied trees, digests.
fn is_temporary(name: &str) -> bool {
    let prefixes = [".build-", ".making-", ".mayfly-cp-", ".verified.json."];
    name.ends_with(".new") || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn temporary_below(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name().to_string_lossy()) {
            found.push(entry.path().display().to_string());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            temporary_below(&entry.path(), found);
        }
    }
}

/// Runs a command to its end, with `input` on its standard input.
#[track_caller]
pub fn finish(command: Command, input: &[u8]) -> Answer {
    let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let output = assert_cmd::Command::from_std(command)
        .write_stdin(input)
        .timeout(LIMIT)
        .output()
        .expect("the program can be started");
    Answer::new(shown, output)
}

impl Drop for Environment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            logs::show(&self.state());
            // VMs of a failed test must not make others fail.
            for vm in fs::read_dir(self.state().join("vms")).into_iter().flatten().flatten() {
                let words = ["rm".into(), "--force".into(), vm.file_name()];
                let _ = self.command(&words).output();
            }
        }
        let left = self.leftovers();
        for (pid, _) in processes::of_state(&self.state()) {
            // They carry the mark of this test's state directory.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "the test left behind:\n{}", left.join("\n"));
        }
    }
}
