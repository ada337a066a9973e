//! The first process of a guest: from the kernel's hand-over to the first session.
//!
//! ```text
//! /proc /sys /dev ▶ modules ▶ disks ▶ root ▶ other mounts ▶ loopback, limits, cgroups ▶ ports
//! ```
//!
//! Options on the kernel's command line: `mayfly.root=initrd` serves from the initial file system
//! and needs no disks; `mayfly.poweroff=reboot` ends the VM by a reboot, for VMMs that take only
//! that; `mayfly.line=vsock` serves vsock connections instead of virtio-serial ports; `mayfly.nested`
//! makes a host of VMs of the guest.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::boot::mounts::{self, GuestMounts};
use super::boot::virtio_ports::SerialPorts;
use super::boot::{kvm, modules};
use super::console;
use super::descriptors::close_on_exec;
use super::processes::{CgroupRoot, ChildReaper};
use super::serve::listener::AgentListener;
use super::serve::threads::{accept_forever, serve_in_thread};
use super::serve::transport::HostStream;
use super::vm::{AgentContext, AgentMode, shutdown};
use crate::protocol::{VSOCK_CONTROL, VSOCK_SESSION};

/// How long a device may take to appear after its driver was loaded. Drivers probe while they load,
/// so this is for slow emulation only; still it ends before the host gives up on a boot.
const DEVICE_LIMIT: Duration = Duration::from_secs(20);

/// Where the initial file system has them.
const MODULES: &str = "/modules";

/// What makes a vsock device work.
const VSOCK_DRIVER: &str = "vmw_vsock_virtio_transport.ko";

/// Open files: the soft and the hard limit Debian gives to services. The kernel's own hard limit,
/// 4096, is too low for some builds.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Boots the guest and serves until it ends. Never returns: a first process that ends is a panic.
pub fn run() -> ExitCode {
    let mut power = RebootMode::RB_POWER_OFF;
    match boot(&mut power) {
        Ok(world) => {
            console::say("ready");
            shutdown::wait_for_sigterm(&world)
        }
        Err(why) => {
            console::say(&format!("cannot start this guest: {why}"));
            nix::unistd::sync();
            let error = reboot(power);
            console::say(&format!("cannot power off: {error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn boot(power: &mut RebootMode) -> Result<Arc<AgentContext>, String> {
    mounts::early()?;
    use_console();
    let options = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let has = |option: &str| options.split_whitespace().any(|word| word == option);
    if has("mayfly.poweroff=reboot") {
        *power = RebootMode::RB_AUTOBOOT;
    }
    let by_vsock = has("mayfly.line=vsock");
    let has_pci = fs::read_dir("/sys/bus/pci/devices").is_ok_and(|mut all| all.next().is_some());
    let failures = modules::load(Path::new(MODULES), |module| match module {
        VSOCK_DRIVER => false,
        "virtio_console.ko" => !by_vsock,
        _ if module.contains("vsock") => by_vsock,
        _ if module.contains("_pci") => has_pci,
        _ => true,
    });
    // It is loaded last, when the initial file system is gone.
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
    settle_in();
    if has("mayfly.nested") {
        complain("provide /dev/kvm", kvm::provide());
    }
    shutdown::block_signals().map_err(|errno| format!("set up signals: {}", errno.desc()))?;
    let kind = AgentMode::Guest {
        cgroups: CgroupRoot::prepare(Path::new(mounts::CGROUPS)),
        mounts,
        power: *power,
    };
    let world = AgentContext::new(kind, ChildReaper::start())
        .map_err(|errno| format!("set up the TTL: {}", errno.desc()))?;
    shutdown::end_past_ttl(&world);
    match vsock_driver {
        Some(driver) => serve_vsock(&world, driver, &failures)?,
        None => serve_ports(&world, &failures)?,
    }
    Ok(world)
}

/// Standard streams, which the kernel leaves closed where it found no console.
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

fn wait_for_disk(path: &str, failures: &[String]) -> Result<(), String> {
    let deadline = Instant::now() + DEVICE_LIMIT;
    while !fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        if Instant::now() >= deadline {
            return Err(format!("{path} did not appear{}", because(failures)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn because(failures: &[String]) -> String {
    if failures.is_empty() { String::new() } else { format!(" ({})", failures.join("; ")) }
}

fn complain(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        console::say(&format!("{what}: {error}"));
    }
}

/// What makes a guest bearable and is no reason to give up if it fails.
fn settle_in() {
    complain("bring up the loopback interface", bring_up_loopback());
    complain("oom_score_adj", fs::write("/proc/self/oom_score_adj", "-1000"));
    let (soft, hard) = OPEN_FILES;
    let limit = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    complain("limit on open files", limit.map_err(io::Error::from));
    complain("host name", nix::unistd::sethostname("mayfly").map_err(io::Error::from));
}

fn bring_up_loopback() -> io::Result<()> {
    let socket: OwnedFd =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: zeros are valid for this structure of plain data; the request reads name and flags.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let result =
            libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request);
        Errno::result(result)?;
    }
    Ok(())
}

/// Serves connections from the host, mayfly's own requests apart from commands, so that no number of
/// commands can keep those out.
///
/// The driver comes last. Until it does, a connection waits in the VMM; between it and the listeners
/// each would be refused, and tried again, at the cost of this guest's time.
fn serve_vsock(
    world: &Arc<AgentContext>,
    driver: io::Result<File>,
    failures: &[String],
) -> Result<(), String> {
    for port in [VSOCK_CONTROL, VSOCK_SESSION] {
        let listener = AgentListener::vsock(port).map_err(|error| {
            format!("listen at vsock port {port}: {error}{}", because(failures))
        })?;
        let world = Arc::clone(world);
        std::thread::spawn(move || accept_forever(&listener, &world));
    }
    let loaded = driver.and_then(|driver| modules::insert(&driver));
    loaded.map_err(|error| format!("load {VSOCK_DRIVER}: {error}{}", because(failures)))
}

/// Serves every port of ours: one that is not would take clients and never answer.
fn serve_ports(world: &Arc<AgentContext>, failures: &[String]) -> Result<(), String> {
    let deadline = Instant::now() + DEVICE_LIMIT;
    let ports = loop {
        let ports = SerialPorts::now();
        if ports.all_here() {
            break ports;
        }
        if Instant::now() >= deadline {
            let (here, more) = (ports.ours.len(), ports.unnamed);
            let found = format!("{here} lines to the host, and {more} without a name");
            return Err(format!("found {found}{}", because(failures)));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    for path in ports.ours {
        let said = |error: io::Error| format!("{}: {error}", path.display());
        let port = OpenOptions::new().read(true).write(true).open(&path).map_err(said)?;
        let line = HostStream::port(File::into(port)).map_err(|errno| said(errno.into()))?;
        serve_in_thread(line, world);
    }
    Ok(())
}
