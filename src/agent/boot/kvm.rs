//! Nested virtualization: `/dev/kvm` in a guest.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::{libc, request_code_none};

use super::modules;
use crate::sys::kernel::{self, KVM_DEVICE as DEVICE};

/// Requests from `linux/kvm.h`. Each takes a number.
const CREATE_VM: libc::Ioctl = request_code_none!(0xae, 0x01);
const CREATE_VCPU: libc::Ioctl = request_code_none!(0xae, 0x41);
const CREATE_IRQCHIP: libc::Ioctl = request_code_none!(0xae, 0x60);

/// Loads the KVM module for this CPU and gives every user of the guest access to `/dev/kvm`, as systemd
/// does on a host.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the CPU has no virtualization; a step that failed.
pub fn provide() -> io::Result<()> {
    let module = match kernel::virtualization_flag(&kernel::first_cpu()?) {
        Some("svm") => "kvm-amd",
        Some(_) => "kvm-intel",
        None => {
            return Err(io::Error::new(ErrorKind::Unsupported, "the CPU has neither svm nor vmx"));
        }
    };
    modules::load_by_name(&Path::new("/lib/modules").join(kernel::release()), module)?;
    fs::set_permissions(DEVICE, Permissions::from_mode(0o666))?;
    hold_a_vm()
}

/// Creates a VM that never runs and exists as long as the guest.
///
/// The kernel patches its scheduler when the first VM is created and when the last one is closed, using
/// a temporary breakpoint. QEMU 7.2 with several emulated CPUs may cache a translation of the code with
/// the breakpoint: then every CPU ends up in it, and the guest hangs. While one VM exists, nothing is
/// patched. It has an interrupt controller and a vCPU because the code for their first use is patched
/// in the same way.
fn hold_a_vm() -> io::Result<()> {
    let kvm = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let request = |to: &dyn AsRawFd, code| {
        // SAFETY: these requests take their argument by value and write nothing here.
        Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), code, 0) })
    };
    // SAFETY: the descriptor is new, and nothing else owns it.
    let vm = unsafe { OwnedFd::from_raw_fd(request(&kvm, CREATE_VM)?) };
    request(&vm, CREATE_IRQCHIP)?;
    // The vCPU keeps the VM. Its descriptor stays open in this process, and is closed on exec.
    request(&vm, CREATE_VCPU)?;
    Ok(())
}
