//! Whether this host has hardware virtualization that mayfly can use.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The device.
pub const DEVICE: &str = "/dev/kvm";

/// The device number of KVM: the misc major and its fixed minor (`Documentation/admin-guide/devices.txt`).
const MISC_KVM: (u32, u32) = (10, 232);

/// What there is of KVM. Four ways of not having it, because each has another remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmSupport {
    Usable,
    /// No `/dev/kvm`.
    Absent,
    /// It is there, and this user may not open it.
    Forbidden,
    /// Something else is at that path, or it does not open.
    WrongDevice(String),
    /// It is there, but the CPU shows neither `vmx` nor `svm`. Hosts exist whose KVM opens, answers
    /// every question and boots no stock kernel; only the CPU flags tell.
    NoExtensions,
}

impl KvmSupport {
    /// Looks at this host.
    pub fn probe() -> KvmSupport {
        KvmSupport::judge(Path::new(DEVICE), &first_cpu().unwrap_or_default())
    }

    fn judge(device: &Path, cpuinfo: &str) -> KvmSupport {
        let meta = match fs::metadata(device) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return KvmSupport::Absent,
            Err(error) => return KvmSupport::WrongDevice(error.to_string()),
        };
        let number = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        if !meta.file_type().is_char_device() || number != MISC_KVM {
            return KvmSupport::WrongDevice("it is not the KVM device".into());
        }
        match OpenOptions::new().read(true).write(true).open(device) {
            Ok(_) if has_extensions(cpuinfo) => KvmSupport::Usable,
            Ok(_) => KvmSupport::NoExtensions,
            // Permission would not help where there is nothing to permit.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                if has_extensions(cpuinfo) {
                    KvmSupport::Forbidden
                } else {
                    KvmSupport::NoExtensions
                }
            }
            Err(error) => KvmSupport::WrongDevice(error.to_string()),
        }
    }

    /// What is wrong, in a few words; `None` when nothing is.
    pub fn problem(&self) -> Option<String> {
        match self {
            KvmSupport::Usable => None,
            KvmSupport::Absent => Some(format!("{DEVICE} does not exist")),
            KvmSupport::Forbidden => Some(format!("you may not open {DEVICE}")),
            KvmSupport::WrongDevice(why) => Some(format!("{DEVICE} cannot be used: {why}")),
            KvmSupport::NoExtensions => Some(format!(
                "{DEVICE} is there, but the CPU shows neither vmx nor svm: this host's KVM is not \
                 hardware virtualization and boots no stock kernel"
            )),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            KvmSupport::Usable => None,
            KvmSupport::Absent => Some(
                "load the module ('modprobe kvm_intel' or 'modprobe kvm_amd') and enable \
                 virtualization in the firmware; inside a VM, ask its host for nested virtualization",
            ),
            KvmSupport::Forbidden => {
                Some("join its group: 'sudo usermod -aG kvm $USER', then log in again")
            }
            KvmSupport::WrongDevice(_) => {
                Some("recreate the device: 'rm /dev/kvm', then 'modprobe kvm'")
            }
            KvmSupport::NoExtensions => {
                Some("use '--backend qemu', which emulates, or a host with nested virtualization")
            }
        }
    }
}

/// What the kernel says of one CPU. Of all of them it takes milliseconds to say so on a large machine, and
/// it is the same.
fn first_cpu() -> std::io::Result<String> {
    /// Bytes; a CPU takes two thousand.
    const ENOUGH: u64 = 1 << 14;
    let mut said = Vec::new();
    File::open("/proc/cpuinfo")?.take(ENOUGH).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    Ok(said.split("\n\n").next().unwrap_or_default().to_owned())
}

/// Whether some CPU line shows Intel's or AMD's virtualization flag as a whole word.
fn has_extensions(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

/// The group that may open the device, for a VMM that runs as a user of its own.
pub fn device_group() -> Option<u32> {
    fs::metadata(DEVICE).ok().map(|meta| meta.gid())
}

/// The release of the kernel that KVM is a part of.
pub fn kernel_release() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_whole_words() {
        assert!(has_extensions("processor : 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has_extensions("flags : svm\n"));
        assert!(!has_extensions("flags : fpu svm_lock vmxx\nbugs : svm\n"));
        assert!(!has_extensions(""));
    }

    #[test]
    fn each_lack_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let absent = KvmSupport::judge(&dir.path().join("kvm"), "");
        assert_eq!(absent, KvmSupport::Absent);
        let wrong = KvmSupport::judge(Path::new("/dev/null"), "flags : vmx\n");
        assert!(matches!(wrong, KvmSupport::WrongDevice(_)));
        let lacks = [absent, KvmSupport::Forbidden, wrong, KvmSupport::NoExtensions];
        for lack in &lacks {
            assert!(lack.problem().is_some() && lack.remedy().is_some());
            assert_eq!(lacks.iter().filter(|other| other.problem() == lack.problem()).count(), 1);
        }
    }
}
