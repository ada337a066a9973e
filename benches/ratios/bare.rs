//! The floor: a VMM with the very arguments and files that mayfly gives it, and nothing around it.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use command_fds::CommandFdExt;
use mayfly::backend::{Backend, Machine, Programs, Purpose, Wish, select};
use mayfly::guest::{ExecIo, Exit, Session, Sink};
use mayfly::host::channel::Channel;
use mayfly::host::signals::Signals;
use mayfly::host::wait::Wait;
use mayfly::host::{directory, random, socket, sparse};
use mayfly::image::{Image, Lines, Store};
use mayfly::model::{BackendChoice, BootFiles, Manifest, VmId, VmPaths};
use mayfly::protocol::{Exec, Program, Text};
use mayfly::settings::load_profiles;

use crate::numbers::ms_since;
use crate::programs;
use crate::workspace::Workspace;

/// The profile that is booted, in its default shape.
const PROFILE: &str = "debian-base";

/// Longer than any boot; on a busy machine emulated ones take a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// The name of the port that no agent listens at, in the guest.
const RAW_PORT: &str = "raw";

/// What all bare VMs of a backend boot.
pub struct Bench {
    backend: Box<dyn Backend>,
    boot: BootFiles,
    manifest: Manifest,
    image: Image,
}

/// A VMM that ends with this value.
#[derive(Debug)]
pub struct BareVm {
    child: Child,
    paths: VmPaths,
    /// Milliseconds from its start to the agent's answer.
    pub ready_ms: f64,
    session: Session,
}

impl Bench {
    /// Makes sure that there is an image, with the agent that is measured.
    pub fn prepare(choice: BackendChoice) -> Result<Bench> {
        let agent = programs::agent();
        let programs = Programs {
            qemu: "qemu-system-x86_64".into(),
            firecracker: "firecracker".into(),
            jailer: "jailer".into(),
            agent: agent.clone(),
        };
        let backend = select(Wish { choice, no_jailer: true, ..Wish::default() }, &programs)?;
        let profiles = load_profiles(None)?;
        let profile = &profiles.profiles[PROFILE];
        let store = Store::open(&Workspace::artifacts())?;
        let image = store
            .ensure(profile, &agent, &mut Lines::default())
            .context("cannot build the image to boot")?;
        image.verify()?;
        let manifest = Manifest {
            vm_id: VmId::from_random(random::bytes()?),
            name: None,
            profile: PROFILE.into(),
            vcpu_count: profile.vcpu_count,
            mem_mib: profile.mem_mib,
            ttl_seconds: profile.ttl_seconds,
            created_at: 0.0,
            backend: backend.kind(),
            accelerator: backend.accelerator(),
            keep: false,
            image: image.id(),
            nested: false,
            jailed: false,
            vmm_uid: None,
            owner: None,
            metadata: Default::default(),
        };
        Ok(Bench { backend, boot: image.boot_files(), manifest, image })
    }

    /// Starts a VMM and waits for the agent. With `raw`, the machine has one more port, which the
    /// agent leaves alone.
    #[expect(
        clippy::disallowed_methods,
        reason = "a bare VMM is started without mayfly's launcher"
    )]
    pub fn start(&self, workspace: &Workspace, raw: bool) -> Result<BareVm> {
        let base = workspace.path("bare");
        let paths = VmPaths::new(&base.join("s"), &base.join("r"), &self.manifest.vm_id);
        for path in [&paths.dir, &paths.run] {
            directory::ensure_private(path)?;
        }
        let _ = std::fs::remove_file(paths.disk());
        sparse::clone_file(&self.image.disk_seed(), &paths.disk())?;
        let machine = Machine::new(&self.manifest, &paths, Some(&self.boot));
        let mut launch = self.backend.launch(machine)?.launch;
        if raw {
            let listener = socket::listen(&paths.run.join(RAW_PORT))?;
            launch.program.args.extend([
                "-chardev".into(),
                format!("socket,id=raw,fd={},server=on,wait=off", listener.as_raw_fd()),
                "-device".into(),
                format!("virtserialport,chardev=raw,name={RAW_PORT}"),
            ]);
            launch.files.push(listener.into());
        }
        let begun = Instant::now();
        let child = Command::new(&launch.program.path)
            .args(&launch.program.args)
            .env_clear()
            .current_dir(&launch.program.cwd)
            .stdin(Stdio::null())
            .stdout(launch.output.map_or_else(Stdio::null, Stdio::from))
            .stderr(launch.log)
            .preserved_fds(launch.files)
            .spawn()
            .context("cannot start the VMM")?;
        let mut child = KilledUnlessKept(Some(child));
        let session = self.meet(machine)?;
        let ready_ms = ms_since(begun);
        let child = child.0.take().expect("it was not taken before");
        Ok(BareVm { child, paths, ready_ms, session })
    }

    /// Greets the agent of a VM that is starting.
    fn meet(&self, machine: Machine) -> Result<Session> {
        let mut wait = Wait::within(LIMIT);
        let dialled = self.backend.dial(machine, Purpose::Session, &mut wait)?;
        Session::open(dialled.channel, dialled.dirty, &mut wait)
    }
}

/// A VMM whose agent did not answer must not stay.
struct KilledUnlessKept(Option<Child>);

impl Drop for KilledUnlessKept {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl BareVm {
    /// Runs a command, without anything of mayfly but the protocol.
    pub fn exec(&mut self, argv: &[&str], signals: &mut Signals) -> Result<String> {
        exec(&mut self.session, argv, signals)
    }

    /// A connection to the raw port.
    pub fn raw_stream(&self) -> Result<UnixStream> {
        connect(&self.paths.run.join(RAW_PORT))
    }

    /// The raw port's device in the guest, which has no udev to name it.
    pub fn raw_device(&mut self, signals: &mut Signals) -> Result<String> {
        let script = format!("grep -lx {RAW_PORT} /sys/class/virtio-ports/*/name");
        let found = self.exec(&["sh", "-c", &script], signals)?;
        let name = found.trim().rsplit('/').nth(1).context("the guest has no raw port")?;
        Ok(format!("/dev/{name}"))
    }
}

impl Drop for BareVm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(path: &Path) -> Result<UnixStream> {
    socket::connect(path)?.context("the VMM accepts no connections")
}

/// Greets the agent at a port.
pub fn open(paths: &VmPaths, port: u32) -> Result<Session> {
    let stream = connect(&paths.port(port))?;
    Session::open(Channel { stream, claim: None }, false, &mut Wait::within(LIMIT))
}

/// Runs a command that must succeed; its output.
pub fn exec(session: &mut Session, argv: &[&str], signals: &mut Signals) -> Result<String> {
    let request = Exec {
        program: Program::Argv(argv.iter().map(|&word| Text::from(word)).collect()),
        env: Vec::new(),
        cwd: None,
        user: None,
        timeout_ms: None,
        stdin: false,
        tty: None,
    };
    let keep = || Sink::Capture { limit: 4096 };
    let io = ExecIo { stdin: None, stdout: keep(), stderr: keep(), signals };
    let outcome = session.exec(&request, io)?;
    if outcome.exit != Exit::Exited(0) {
        bail!("{argv:?}: {:?} {}", outcome.exit, String::from_utf8_lossy(&outcome.stderr.bytes));
    }
    Ok(String::from_utf8_lossy(&outcome.stdout.bytes).into_owned())
}
