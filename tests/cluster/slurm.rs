//! A Slurm of two nodes on this machine.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::answer::Answer;
use crate::support::environment::{Environment, finish};
use crate::support::processes::eventually;
use crate::support::programs;
use crate::support::skip::skipped;

/// The programs it consists of. Their directory is not on an ordinary user's `PATH`.
const DAEMONS: [&str; 3] = ["/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd"];

/// Whether the scripts of `contrib/slurm` run at the beginning and end of jobs.
#[derive(Clone, Copy)]
pub enum Hooks {
    Absent,
    Installed,
}

/// A Slurm. Dropping it ends its daemons, and with them its jobs.
pub struct Slurm {
    pub env: Environment,
    directory: PathBuf,
    daemons: Vec<Child>,
}

impl Slurm {
    /// One without scripts at the beginning and end of jobs. `None` if this machine lacks Slurm, or the right to run it.
    pub fn start() -> Option<Slurm> {
        Slurm::start_with(Hooks::Absent)
    }

    /// As [`Slurm::start`].
    pub fn start_with(hooks: Hooks) -> Option<Slurm> {
        if let Some(missing) = DAEMONS.iter().find(|daemon| !Path::new(daemon).exists()) {
            skipped(&format!(
                "{missing} is missing: packages slurmctld, slurmd, slurm-client, munge"
            ));
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skipped("slurmd needs root");
            return None;
        }
        let mut env = Environment::qemu();
        let directory = env.root().join("slurm");
        for name in ["", "state", "munge"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        env.set("SLURM_CONF", directory.join("slurm.conf"));
        let mut slurm = Slurm { env, directory, daemons: Vec::new() };
        slurm.authenticate();
        slurm.configure(hooks);
        slurm.daemon(DAEMONS[1], &["-D"]);
        slurm.daemon(DAEMONS[2], &["-D", "-N", "one"]);
        slurm.daemon(DAEMONS[2], &["-D", "-N", "two"]);
        eventually("two idle nodes", || {
            slurm.client("sinfo", &["--noheader", "-o", "%D %T"]).stdout() == "2 idle\n"
        });
        Some(slurm)
    }

    /// Starts the service by which its daemons know each other.
    fn authenticate(&mut self) {
        let munge = self.directory.join("munge");
        fs::set_permissions(&munge, Permissions::from_mode(0o700)).unwrap();
        let key = munge.join("key");
        fs::write(&key, fs::read("/proc/sys/kernel/random/uuid").unwrap().repeat(4)).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
        let file = |name: &str, file: &str| format!("--{name}={}", munge.join(file).display());
        let args = [
            "--foreground".to_owned(),
            // The directories above it can be written by others, as /tmp is.
            "--force".to_owned(),
            file("key-file", "key"),
            file("socket", "socket"),
            file("pid-file", "pid"),
            file("log-file", "log"),
            file("seed-file", "seed"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.daemon(DAEMONS[0], &args);
        eventually("munge's socket", || munge.join("socket").exists());
    }

    fn configure(&self, hooks: Hooks) {
        let at = self.directory.display();
        let host = nix::unistd::gethostname().unwrap();
        let host = host.to_string_lossy();
        let [controller, one, two] = free_ports();
        let node = |name: &str, port: u16| {
            format!(
                "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=2000\n"
            )
        };
        let text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmctldPort={controller}\n\
             AuthType=auth/munge\nAuthInfo=socket={at}/munge/socket\nCredType=cred/munge\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\n\
             StateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool-%n\nSlurmdPidFile={at}/%n.pid\n\
             SlurmctldPidFile={at}/controller.pid\nSlurmctldLogFile={at}/controller.log\n\
             SlurmdLogFile={at}/%n.log\nKillWait=20\n{}{}\
             PartitionName=all Nodes=one,two Default=YES State=UP\n",
            node("one", one),
            node("two", two),
        );
        let hooks = match hooks {
            Hooks::Absent => String::new(),
            Hooks::Installed => self.install_hooks(),
        };
        fs::write(self.directory.join("slurm.conf"), text + &hooks).unwrap();
    }

    /// Wraps the scripts of `contrib/slurm`, so that they keep to the test's directory, and returns their configuration.
    fn install_hooks(&self) -> String {
        let install = |(setting, script): &(&str, &str)| {
            let wrapper = self.directory.join(script);
            let text = format!(
                "#!/bin/sh\nexport MAYFLY_JOBS_STATE={} MAYFLY_JOBS_RUN={} MAYFLY_PROGRAM={}\n\
                 exec {}/contrib/slurm/{script}\n",
                self.jobs_state().display(),
                self.jobs_run().display(),
                programs::mayfly().display(),
                env!("CARGO_MANIFEST_DIR"),
            );
            fs::write(&wrapper, text).unwrap();
            fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
            format!("{setting}={}\n", wrapper.display())
        };
        [("Prolog", "prolog"), ("TaskProlog", "task-prolog"), ("Epilog", "epilog")]
            .iter()
            .map(install)
            .collect()
    }

    /// The directory of the state directories of jobs, if the scripts are installed.
    pub fn jobs_state(&self) -> PathBuf {
        self.env.root().join("jobs")
    }

    /// The directory of their runtime directories.
    pub fn jobs_run(&self) -> PathBuf {
        self.env.root().join("jobs-run")
    }

    fn daemon(&mut self, program: &str, args: &[&str]) {
        let log =
            File::create(self.directory.join(format!("daemon-{}", self.daemons.len()))).unwrap();
        let mut daemon = Command::new(program);
        daemon.args(args).env("SLURM_CONF", self.directory.join("slurm.conf"));
        daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.push(daemon.spawn().unwrap());
    }

    /// Runs one of Slurm's own programs, or one that finds mayfly on its `PATH`, to its end.
    pub fn client(&self, program: &str, args: &[&str]) -> Answer {
        finish(self.env.client(program, args), b"")
    }

    /// Submits a script of which each line is a command of the shell, and returns the job's number.
    pub fn submit(&self, flags: &[&str], script: &str) -> String {
        let mut sbatch = self.env.client("sbatch", &["--parsable", "--output=job-%A-%a"]);
        sbatch.args(flags);
        let answer = finish(sbatch, format!("#!/bin/sh\n{script}\n").as_bytes());
        answer.line()
    }

    /// What a job has printed.
    pub fn printed(&self, job: &str, task: &str) -> String {
        let output = self.env.root().join(format!("job-{job}-{task}"));
        fs::read_to_string(output).unwrap_or_default()
    }

    /// Waits until a job has ended and its nodes are cleaned up, and returns the state and exit code of each task.
    pub fn end(&self, job: &str) -> Vec<(String, String)> {
        eventually("the end of a job", || {
            self.client("squeue", &["--noheader", "--jobs", job]).stdout().is_empty()
        });
        let shown = self.client("scontrol", &["--oneliner", "show", "job", job]);
        let field = |line: &str, name: &str| {
            let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
        };
        let ends = shown.stdout().lines();
        ends.map(|line| (field(line, "JobState"), field(line, "ExitCode"))).collect()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // The controller first, so that it does not start jobs again; the service that all of them need last.
        for at in [1, 2, 3, 0] {
            let Some(daemon) = self.daemons.get_mut(at) else { continue };
            let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
            let _ = daemon.wait();
        }
    }
}

fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
