//! A state directory for a campaign, with everything around it. Nothing of it is left afterwards, even if the campaign
//! fails.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use mayfly::host::clock;
use mayfly::model::{VmId, VmManifest, VmPaths};
use mayfly::registry::{Registry, RegistryContents, read_vm_files};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::canaries::Canaries;
use super::ledger::Ledger;
use super::procfs::{self, Marked};
use super::support::processes::{command_line, firecrackers};
use super::support::{images, logs, programs};

/// The longest that a verb may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The environment of a campaign.
#[derive(Debug)]
pub struct Ground {
    dir: TempDir,
    pub state: PathBuf,
    pub ledger: Ledger,
    /// The highest generation of the registry seen so far.
    pub generation: AtomicU64,
    /// Other processes, which mayfly must not signal.
    pub canaries: Canaries,
    variables: Vec<(String, String)>,
    /// The longest that a verb may take.
    pub limit: Duration,
    /// Whether every VM of this machine belongs to this campaign, because traces of a jailed VM do not show its state
    /// directory.
    pub machine_is_ours: bool,
    /// Whether VMs have kernels and disks of their own.
    pub has_machines: bool,
    /// The parent of the runtime directory, if it is in memory.
    in_memory: Option<TempDir>,
    /// The VMs whose guest has synced a file.
    pub marked: Mutex<BTreeSet<String>>,
}

/// A command that ended.
#[must_use = "look at its code"]
#[derive(Debug)]
pub struct Ended {
    /// The command line, for messages.
    #[expect(dead_code, reason = "read by Debug only")]
    pub shown: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ground {
    /// An environment with mock VMs.
    pub fn new() -> Ground {
        let dir = tempfile::Builder::new().prefix("mf").tempdir().unwrap();
        let state = dir.path().join("state");
        let mut ground = Ground {
            state,
            ledger: Ledger::default(),
            generation: AtomicU64::new(0),
            canaries: Canaries::default(),
            variables: Vec::new(),
            limit: LIMIT,
            machine_is_ours: false,
            has_machines: false,
            in_memory: None,
            marked: Mutex::default(),
            dir,
        };
        let path = |name: &str| ground.dir.path().join(name).display().to_string();
        let (artifacts, run, state, temporary) =
            (path("artifacts"), path("run"), path("state"), path("tmp"));
        ground.canaries = Canaries::beside(&state);
        ground.set("MAYFLY_STATE_DIR", &state);
        ground.set("MAYFLY_RUNTIME_DIR", &run);
        ground.set("MAYFLY_ARTIFACTS_DIR", &artifacts);
        ground.set("MAYFLY_BACKEND", "mock");
        fs::create_dir(&temporary).unwrap();
        ground.set("TMPDIR", &temporary);
        ground.set("MAYFLY_MAX_ACTIVE_VMS", "1000");
        ground
    }

    /// Sets a variable for every command from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.variables.retain(|(known, _)| known != key);
        self.variables.push((key.into(), value.into()));
    }

    /// Moves the runtime directory to a tmpfs: secrets on the mock backend need that.
    pub fn keep_runtime_in_memory(&mut self) {
        let in_memory = tempfile::Builder::new().prefix("mf").tempdir_in("/dev/shm").unwrap();
        self.set("MAYFLY_RUNTIME_DIR", in_memory.path().join("run").to_str().unwrap());
        self.in_memory = Some(in_memory);
    }

    /// A ground with another backend.
    pub fn of_machines(backend: &str) -> Ground {
        let mut ground = Ground::new();
        ground.run_machines(backend);
        ground
    }

    /// Uses another backend, with templates of its own.
    pub fn run_machines(&mut self, backend: &str) {
        images::apart("debian-base", &self.artifacts());
        self.set("MAYFLY_BACKEND", backend);
        // VMs are small, because Firecracker writes all memory of a template.
        let profiles = self.path("profiles.toml");
        std::fs::write(&profiles, "[profiles.debian-base]\nmem_mib = 256\n").unwrap();
        self.set("MAYFLY_PROFILES", profiles.to_str().unwrap());
        // The deadline of an emulated boot.
        self.limit += Duration::from_secs(180);
        self.machine_is_ours = backend == "firecracker";
        self.has_machines = true;
    }

    /// The directory of images and templates.
    pub fn artifacts(&self) -> PathBuf {
        self.path("artifacts")
    }

    /// A path in the campaign's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directories of this state directory's sockets.
    pub fn run_dirs(&self) -> Vec<PathBuf> {
        let parent = self.in_memory.as_ref().map_or(self.base(), TempDir::path);
        let entries = fs::read_dir(parent.join("run")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// `mayfly` with these arguments and only the campaign's variables.
    pub fn mayfly(&self, args: &[&str]) -> Command {
        self.behind(&[], args)
    }

    /// `mayfly` with these arguments, started by another program.
    pub fn behind(&self, wrapper: &[&str], args: &[&str]) -> Command {
        let mayfly = programs::mayfly();
        let mayfly = mayfly.to_str().expect("the path is text");
        let words: Vec<&str> = wrapper.iter().chain(&[mayfly]).chain(args).copied().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.dir.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command.env("HOME", self.dir.path());
        command
    }

    /// Runs `mayfly` to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.end(&mut self.mayfly(args))
    }

    /// Runs `mayfly`, which must succeed, and returns its output.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        ended.stdout.trim().to_owned()
    }

    /// Creates and starts a VM.
    pub fn started(&self) -> String {
        let id = self.created();
        self.ok(&["start", &id]);
        id
    }

    /// Creates a VM.
    pub fn created(&self) -> String {
        let id = self.ok(&["create"]);
        self.ledger.created(&id);
        id
    }

    /// Runs a command to its end, within the limit.
    pub fn end(&self, command: &mut Command) -> Ended {
        self.begin(command).end()
    }

    /// Starts a command. Its input is the campaign's file `stdin`, if there is one.
    pub fn begin(&self, command: &mut Command) -> Begun {
        let shown = format!("{:?}", command.get_args().collect::<Vec<&OsStr>>());
        // Files, because another process with an end of a pipe could block the reader.
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let stdin = File::open(self.path("stdin")).map_or(Stdio::null(), Stdio::from);
        let child = command
            .stdin(stdin)
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        Begun { shown, child, stdout, stderr, since: Instant::now(), limit: self.limit }
    }

    /// The registry on the disk, read with mayfly's types, which define the format.
    pub fn registry(&self) -> RegistryContents {
        let read = Registry::at(&self.state).read().unwrap_or_else(|error| panic!("{error:#}"));
        std::sync::Arc::unwrap_or_clone(read)
    }

    pub fn phase(&self, id: &str) -> String {
        let contents = self.registry();
        let record = contents.vms.get(&id.parse::<VmId>().unwrap());
        record.map_or("absent", |record| record.state.name()).to_owned()
    }

    /// Runs a verb again that was killed or failed. It must succeed, unless it had done its work already or its VM is
    /// gone; then the result is `None`.
    pub fn again(&self, args: &[&str], vm: Option<&str>, after: &str) -> Option<Ended> {
        let phase = vm.map(|id| self.phase(id));
        let is_vain = match (args[0], phase.as_deref()) {
            ("rm", phase) => phase == Some("absent"),
            ("exec" | "cp", Some(phase)) => phase != "started",
            (_, phase) => matches!(phase, Some("absent" | "removing")),
        };
        if is_vain {
            return None;
        }
        let ended = self.run(args);
        let is_started = args[0] == "start" && phase.as_deref() == Some("started");
        if is_started && ended.code == Some(4) {
            return None;
        }
        // A reap at the same moment may have finished the removal first.
        let is_removed = phase.as_deref() == Some("removing")
            && vm.map(|id| self.phase(id)).as_deref() == Some("absent");
        if is_removed && ended.code == Some(3) {
            return None;
        }
        assert_eq!(ended.code, Some(0), "again after {after}: {ended:#?}");
        Some(ended)
    }

    /// The VMM on record.
    pub fn vmm(&self, id: &str) -> Option<i32> {
        let contents = self.registry();
        let record = contents.vms.get(&id.parse::<VmId>().unwrap())?;
        record.state.instance().map(|instance| instance.process.pid)
    }

    /// The seconds until a VM expires, from the registry.
    pub fn seconds_left(&self, id: &str) -> f64 {
        let record = self.registry().vms[&id.parse::<VmId>().unwrap()].clone();
        record.expiry.remaining(&clock::now().unwrap())
    }

    /// A VM's name in the registry and in its manifest, empty if it has none.
    pub fn names_of(&self, id: &str) -> (String, String) {
        let id = id.parse::<VmId>().unwrap();
        let paths = VmPaths::new(&self.state, Path::new(""), &id);
        let (manifest, _) = read_vm_files(&paths, &id).unwrap().expect("there is a manifest");
        let name =
            |manifest: &VmManifest| manifest.name.as_ref().map_or(String::new(), |n| n.to_string());
        (name(&self.registry().vms[&id].manifest), name(&manifest))
    }

    /// The living processes of VMs of this state directory, recorded or not.
    pub fn processes(&self) -> Vec<Marked> {
        let mut found = procfs::marked(&self.state);
        if self.machine_is_ours {
            for (pid, id) in firecrackers() {
                let vm_dir = self.state.join("vms").join(id).display().to_string();
                if found.iter().all(|known| known.pid != pid) {
                    found.push(Marked { pid, vm_dir, command: command_line(pid) });
                }
            }
        }
        found
    }

    pub fn base(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            logs::show(&self.state);
        }
        // A process may start another one during the search.
        for _ in 0..10 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.iter().for_each(|process| procfs::signal(process.pid, Signal::SIGKILL));
        }
    }
}

/// A running command; killed when dropped before its end.
#[derive(Debug)]
pub struct Begun {
    shown: String,
    pub child: Child,
    stdout: File,
    stderr: File,
    since: Instant,
    limit: Duration,
}

impl Begun {
    /// Waits until it ends, within the limit.
    pub fn end(mut self) -> Ended {
        let limit = self.limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(self.since.elapsed() < limit, "{} takes longer than {limit:?}", self.shown);
            std::thread::sleep(Duration::from_millis(1));
        };
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let ended = Ended {
            shown: self.shown.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: read(&mut self.stdout),
            stderr: read(&mut self.stderr),
            took: self.since.elapsed(),
        };
        assert_ne!(ended.code, Some(101), "a panic: {ended:#?}");
        ended
    }

    /// Kills it after `pause`, if it still runs.
    pub fn end_by_kill_after(mut self, pause: Duration) -> Ended {
        let due = self.since + pause;
        while Instant::now() < due && self.child.try_wait().unwrap().is_none() {
            let left = due.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(2)));
        }
        let _ = self.child.kill();
        self.end()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
