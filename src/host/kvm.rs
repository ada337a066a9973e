//! Whether this host has KVM, and whether it is usable.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::sys::kernel::{KVM_DEVICE as DEVICE, first_cpu, virtualization_flag};

/// The device number of KVM: the misc major and its fixed minor (`Documentation/admin-guide/devices.txt`).
const MISC_KVM: (u32, u32) = (10, 232);

/// The state of KVM. Each problem has its own remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmSupport {
    Usable,
    /// No `/dev/kvm`.
    Absent,
    /// This user has no permission to open it.
    Forbidden,
    /// The path is not the KVM device, or it cannot be opened for another reason.
    WrongDevice(String),
    /// It exists, but the CPU has neither `vmx` nor `svm`. There are hosts whose KVM can be opened and answers
    /// every request, but cannot boot a stock kernel; only the CPU's flags show that.
    NoExtensions,
}

impl KvmSupport {
    /// Examines this host.
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
            Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                KvmSupport::WrongDevice(error.to_string())
            }
            // Without extensions, permission would not help.
            _ if virtualization_flag(cpuinfo).is_none() => KvmSupport::NoExtensions,
            Err(_) => KvmSupport::Forbidden,
            Ok(_) => KvmSupport::Usable,
        }
    }

    /// The problem, in a few words; `None` if usable.
    pub fn problem(&self) -> Option<String> {
        match self {
            KvmSupport::Usable => None,
            KvmSupport::Absent => Some(format!("{DEVICE} does not exist")),
            KvmSupport::Forbidden => Some(format!("you have no permission to open {DEVICE}")),
            KvmSupport::WrongDevice(why) => Some(format!("{DEVICE} cannot be used: {why}")),
            KvmSupport::NoExtensions => Some(format!(
                "{DEVICE} exists, but the CPU has neither vmx nor svm: this host's KVM is not \
                 hardware virtualization and cannot boot a stock kernel"
            )),
        }
    }

    /// The remedy; `None` if usable.
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

/// The group that may open the device.
pub fn device_group() -> Option<u32> {
    fs::metadata(DEVICE).ok().map(|meta| meta.gid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_its_own_text_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let absent = KvmSupport::judge(&dir.path().join("kvm"), "");
        assert_eq!(absent, KvmSupport::Absent);
        let wrong = KvmSupport::judge(Path::new("/dev/null"), "flags : vmx\n");
        assert!(matches!(wrong, KvmSupport::WrongDevice(_)));
        let problems = [absent, KvmSupport::Forbidden, wrong, KvmSupport::NoExtensions];
        for problem in &problems {
            assert!(problem.problem().is_some() && problem.remedy().is_some());
            let same = problems.iter().filter(|other| other.problem() == problem.problem());
            assert_eq!(same.count(), 1);
        }
    }
}
