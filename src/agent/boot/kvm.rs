//! Making a host of VMs of a guest.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::{libc, request_code_none};

use super::modules;

/// The device that programs run VMs through.
const DEVICE: &str = "/dev/kvm";

/// Requests of `linux/kvm.h`. All three take a number.
const CREATE_VM: libc::Ioctl = request_code_none!(0xae, 0x01);
const CREATE_VCPU: libc::Ioctl = request_code_none!(0xae, 0x41);
const CREATE_IRQCHIP: libc::Ioctl = request_code_none!(0xae, 0x60);

/// Loads the driver of this CPU's virtualization and lets everybody in the guest use it, as systemd's
/// rules do on a host.
pub fn provide() -> io::Result<()> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let has = |flag: &str| cpu.split_ascii_whitespace().any(|word| word == flag);
    let module = match (has("svm"), has("vmx")) {
        (true, _) => "kvm-amd",
        (_, true) => "kvm-intel",
        _ => {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "the CPU shows neither svm nor vmx",
            ));
        }
    };
    let release = nix::sys::utsname::uname()?.release().to_owned();
    modules::load_by_name(&Path::new("/lib/modules").join(release), module)?;
    fs::set_permissions(DEVICE, Permissions::from_mode(0o666))?;
    hold_a_vm()
}

/// Keeps a VM that never runs, for as long as the guest does.
///
/// The kernel patches its scheduler when the first VM comes and when the last one goes, by way of a
/// breakpoint that is there for a moment. QEMU (7.2) with several emulated CPUs may keep a translation
/// of that moment: then every CPU ends up in the breakpoint, and the guest hangs for good. With one VM
/// always there nothing is patched. An interrupt controller and a CPU belong to it, because the code
/// for those that are not in use yet is patched in the same way.
fn hold_a_vm() -> io::Result<()> {
    let kvm = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let request = |to: &dyn AsRawFd, code| {
        // SAFETY: these requests take their argument by value and write nothing here.
        Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), code, 0) })
    };
    // SAFETY: a descriptor that was just made is nobody else's.
    let vm = unsafe { OwnedFd::from_raw_fd(request(&kvm, CREATE_VM)?) };
    request(&vm, CREATE_IRQCHIP)?;
    // The CPU keeps its VM, and its descriptor is left open: the kernel closes it for commands.
    request(&vm, CREATE_VCPU)?;
    Ok(())
}
