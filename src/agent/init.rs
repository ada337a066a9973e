//! The first process of a guest: its boot, from the start of the agent to the first session.
//!
//! ```text
//! /proc /sys /dev ▶ timer ▶ modules ▶ disks ▶ root ▶ other mounts ▶ loopback, limits, cgroups ▶ ports
//! ```
//!
//! Options on the kernel's command line:
//! - `mayfly.root=initrd` keeps the initial file system as the root and needs no disks.
//! - `mayfly.poweroff=reboot` ends the VM with a reboot, for VMMs that cannot power off.
//! - `mayfly.line=vsock` serves vsock connections instead of virtio-serial ports.
//! - `mayfly.net=ethernet` configures a network card, `mayfly.net=tun` a TUN interface with a line by vsock.
//! - `mayfly.nested` provides `/dev/kvm`.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};

use super::boot::mounts::{self, GuestMounts};
use super::boot::virtio_ports::SerialPorts;
use super::boot::{kvm, modules, timer};
use super::console;
use super::descriptors::close_on_exec;
use super::network::{interface, resolver, tun};
use super::processes::CgroupRoot;
use super::serve::host_stream::HostStream;
use super::serve::listener::AgentListener;
use super::serve::threads::{accept_in_thread, serve_in_thread};
use super::vm::{AgentContext, AgentMode, shutdown};
use crate::protocol::network::VSOCK_NETWORK;
use crate::protocol::{LATE_TIMER, VSOCK_CONTROL, VSOCK_SESSION};

/// How long a device may take to appear after its driver was loaded. Drivers usually find it while they
/// load, so only slow emulation needs this. It is shorter than the host's limit on a boot.
const DEVICE_LIMIT: Duration = Duration::from_secs(20);

/// Kernel modules in the initial file system.
const MODULES: &str = "/modules";

/// The driver of vsock devices.
const VSOCK_DRIVER: &str = "vmw_vsock_virtio_transport.ko";

/// The soft and the hard limit on open files: Debian's for services. The kernel's hard limit, 4096, is
/// too low for some builds.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Boots the guest and serves until it ends. Returns only if the guest can neither boot nor power off;
/// the kernel panics then.
pub fn run() -> ExitCode {
    let mut power = RebootMode::RB_POWER_OFF;
    match boot(&mut power) {
        Ok(context) => {
            console::print("ready");
            shutdown::wait_for_sigterm(&context)
        }
        Err(why) => {
            console::print(&format!("cannot start this guest: {why:#}"));
            rustix::fs::sync();
            let error = reboot(power);
            console::print(&format!("cannot power off: {error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn boot(power: &mut RebootMode) -> Result<Arc<AgentContext>> {
    mounts::early()?;
    use_console();
    // Before anything waits, and before a disk is changed: the host boots the same VM again.
    if !timer::keeps_time() {
        bail!(LATE_TIMER);
    }
    let options = fs::read("/proc/cmdline").unwrap_or_default();
    let options = String::from_utf8_lossy(&options);
    let has = |option: &str| options.split_whitespace().any(|word| word == option);
    if has("mayfly.poweroff=reboot") {
        *power = RebootMode::RB_AUTOBOOT;
    }
    let by_vsock = has("mayfly.line=vsock");
    let has_card = has("mayfly.net=ethernet");
    let has_tun = has("mayfly.net=tun");
    let has_pci = fs::read_dir("/sys/bus/pci/devices").is_ok_and(|mut all| all.next().is_some());
    let failures = modules::load(Path::new(MODULES), |module| match module {
        VSOCK_DRIVER => false,
        "virtio_console.ko" => !by_vsock,
        "virtio_net.ko" | "net_failover.ko" | "failover.ko" => has_card,
        "tun.ko" => has_tun,
        _ if module.contains("vsock") => by_vsock,
        _ if module.contains("_pci") => has_pci,
        _ => true,
    });
    // It is loaded last, after the initial file system is gone, so it is opened here.
    let vsock_driver = by_vsock.then(|| File::open(Path::new(MODULES).join(VSOCK_DRIVER)));
    let mounts = if has("mayfly.root=initrd") {
        GuestMounts::default()
    } else {
        for disk in [mounts::ROOT_DISK, mounts::OWN_DISK] {
            wait_for_disk(disk, &failures)?;
        }
        mounts::root()?
    };
    mounts::late()?;
    configure();
    if has_card {
        report("configure the network", configure_card());
    }
    if has("mayfly.nested") {
        report("provide /dev/kvm", kvm::provide());
    }
    shutdown::block_signals().context("set up signals")?;
    if has_tun {
        report("configure the network", configure_tun());
    }
    let mode = AgentMode::Guest {
        cgroups: CgroupRoot::prepare(Path::new(mounts::CGROUPS)),
        mounts,
        power: *power,
    };
    let context = AgentContext::new(mode)?;
    shutdown::end_past_ttl(&context)?;
    match vsock_driver {
        Some(driver) => serve_vsock(&context, driver, &failures)?,
        None => serve_ports(&context, &failures)?,
    }
    Ok(context)
}

/// Opens the standard streams, which the kernel leaves closed if it found no console.
fn use_console() {
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/console")
        .or_else(|_| OpenOptions::new().read(true).write(true).open("/dev/null"));
    if let Ok(console) = console {
        for number in 0..3 {
            // SAFETY: dup2 replaces a standard stream with an open descriptor.
            unsafe { libc::dup2(console.as_raw_fd(), number) };
        }
    }
    let _ = close_on_exec();
}

fn wait_for_disk(path: &str, failures: &[String]) -> Result<()> {
    let deadline = Instant::now() + DEVICE_LIMIT;
    while !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        if Instant::now() >= deadline {
            bail!("{path} did not appear{}", reasons(failures));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn reasons(failures: &[String]) -> String {
    if failures.is_empty() { String::new() } else { format!(" ({})", failures.join("; ")) }
}

fn report(what: &str, result: Result<(), impl fmt::Display>) {
    if let Err(error) = result {
        console::print(&format!("{what}: {error:#}"));
    }
}

/// Network, limits and host name. A guest is usable without them, so failures are only reported.
fn configure() {
    report("bring up the loopback interface", interface::bring_up("lo"));
    report("oom_score_adj", fs::write("/proc/self/oom_score_adj", "-1000"));
    let (soft, hard) = OPEN_FILES;
    let limit = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    report("limit on open files", limit.map_err(io::Error::from));
    report("host name", nix::unistd::sethostname("mayfly").map_err(io::Error::from));
}

/// A failure is only reported: the host learns at the setup that there is no interface.
fn configure_card() -> io::Result<()> {
    interface::configure(interface::ETHERNET)?;
    resolver::write(Path::new("/"))
}

/// As [`configure_card`]; it starts threads.
fn configure_tun() -> Result<()> {
    tun::serve_in_thread(AgentListener::vsock(VSOCK_NETWORK)?)?;
    resolver::write(Path::new("/")).context("name the resolver")
}

/// Serves connections from the host on two ports, one for mayfly's own requests and one for commands:
/// commands cannot use up the connections for requests.
///
/// The driver is loaded after the listeners exist. Before it is loaded, a connection waits in the VMM;
/// with a driver but no listener it would be refused and retried, which costs this guest time.
fn serve_vsock(
    context: &Arc<AgentContext>,
    driver: io::Result<File>,
    failures: &[String],
) -> Result<()> {
    for port in [VSOCK_CONTROL, VSOCK_SESSION] {
        let listener = AgentListener::vsock(port)
            .with_context(|| format!("listen on vsock port {port}{}", reasons(failures)))?;
        accept_in_thread(listener, context)?;
    }
    let loaded = driver.and_then(|driver| modules::insert(&driver));
    loaded.with_context(|| format!("load {VSOCK_DRIVER}{}", reasons(failures)))
}

/// Serves all of mayfly's ports: on a port without a server, clients would wait for ever.
fn serve_ports(context: &Arc<AgentContext>, failures: &[String]) -> Result<()> {
    let deadline = Instant::now() + DEVICE_LIMIT;
    let ports = loop {
        let ports = SerialPorts::read();
        if ports.are_complete() {
            break ports;
        }
        if Instant::now() >= deadline {
            let (here, more) = (ports.ours.len(), ports.unnamed);
            bail!("found {here} ports of mayfly and {more} without a name{}", reasons(failures));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    for path in ports.ours {
        let port = OpenOptions::new().read(true).write(true).open(&path);
        let stream = port.and_then(|port| HostStream::port(port.into()));
        serve_in_thread(stream.with_context(|| path.display().to_string())?, context)?;
    }
    Ok(())
}
