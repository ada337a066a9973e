//! Making a host of VMs of a guest.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::modules;

/// The device that programs run VMs through.
const DEVICE: &str = "/dev/kvm";

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
    fs::set_permissions(DEVICE, Permissions::from_mode(0o666))
}
