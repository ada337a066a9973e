//! Building Firecracker's configuration file.
//!
//! Every path is relative to the VMM's home, the directory it starts in. So the file is the same inside
//! and outside a jail, and for a copy of the VM.

use serde::Serialize;

use crate::model::VmManifest;

pub const FILE: &str = "config.json";
pub const KERNEL: &str = "vmlinux";
pub const INITRD: &str = "initrd.img";
pub const ROOTFS: &str = "rootfs.ext4";
pub const DISK: &str = "disk.img";
/// The files disk.
pub const FILES: &str = "files.img";
/// A frozen VM's memory.
pub const MEMORY: &str = "memory";
/// The state of a frozen VM's CPUs and devices.
pub const STATE: &str = "state";
/// The socket for connections to the guest's vsock ports.
pub const VSOCK: &str = "v.sock";
/// The socket of Firecracker's API, used to freeze and resume a VM.
pub const API: &str = "api.sock";

/// Firecracker's log level: it logs nothing if all is well.
pub const LOG_LEVEL: &str = "Warn";

/// The guest's address. Each VMM has an address space of its own; 0 to 2 are reserved.
const GUEST_CID: u32 = 3;

/// A VM ends by a reboot through the keyboard controller, the only way that Firecracker supports. The
/// controller is also the only device of a PC that it has, so the kernel is told not to look for
/// others. Without the kernel's self-tests of its ciphers, a boot takes a sixth less. AppArmor and Tomoyo have no policy in
/// a guest.
const BOOT_ARGS: &str = "console=ttyS0 quiet reboot=k panic=-1 pci=off 8250.nr_uarts=1 \
    i8042.noaux i8042.nomux i8042.dumbkbd cryptomgr.notests lsm=landlock,yama \
    mayfly.line=vsock mayfly.poweroff=reboot";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration {
    boot_source: BootSource,
    drives: [Drive; 3],
    machine_config: MachineConfig,
    vsock: Vsock,
    entropy: Entropy,
    logger: Logger,
}

#[derive(Serialize)]
struct BootSource {
    kernel_image_path: &'static str,
    initrd_path: &'static str,
    boot_args: String,
}

#[derive(Serialize)]
struct Drive {
    drive_id: &'static str,
    path_on_host: &'static str,
    is_root_device: bool,
    is_read_only: bool,
    cache_type: &'static str,
}

#[derive(Serialize)]
struct MachineConfig {
    vcpu_count: u32,
    mem_size_mib: u32,
}

#[derive(Serialize)]
struct Vsock {
    guest_cid: u32,
    uds_path: &'static str,
}

#[derive(Serialize)]
struct Entropy {}

#[derive(Serialize)]
struct Logger {
    level: &'static str,
}

/// The text of the file.
pub fn build(manifest: &VmManifest) -> String {
    let mut boot_args = BOOT_ARGS.to_owned();
    if !manifest.network.is_none() {
        // Without a network card: the agent has an interface of its own, whose packets come by vsock.
        boot_args.push_str(" mayfly.net=tun");
    }
    let configuration = Configuration {
        boot_source: BootSource { kernel_image_path: KERNEL, initrd_path: INITRD, boot_args },
        // In the order of the guest's device names. The agent mounts the root file system, not the
        // kernel, so no drive is the root device.
        drives: [
            drive("root", ROOTFS, true),
            drive("disk", DISK, false),
            drive("files", FILES, true),
        ],
        machine_config: MachineConfig {
            vcpu_count: manifest.vcpu_count,
            mem_size_mib: manifest.mem_mib,
        },
        vsock: Vsock { guest_cid: GUEST_CID, uds_path: VSOCK },
        entropy: Entropy {},
        // To standard output: Firecracker would write a file named here from its beginning, and without
        // a limit.
        logger: Logger { level: LOG_LEVEL },
    };
    serde_json::to_string_pretty(&configuration).expect("plain data is JSON")
}

fn drive(drive_id: &'static str, path_on_host: &'static str, is_read_only: bool) -> Drive {
    // When the guest syncs, its data must reach the disk.
    let cache_type = if is_read_only { "Unsafe" } else { "Writeback" };
    Drive { drive_id, path_on_host, is_root_device: false, is_read_only, cache_type }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NetworkMode, NetworkSettings};

    #[test]
    fn a_vm() {
        let manifest = VmManifest { vcpu_count: 2, mem_mib: 512, ..VmManifest::sample() };
        let golden = serde_json::json!({
            "boot-source": {
                "kernel_image_path": "vmlinux",
                "initrd_path": "initrd.img",
                "boot_args": "console=ttyS0 quiet reboot=k panic=-1 pci=off 8250.nr_uarts=1 \
                    i8042.noaux i8042.nomux i8042.dumbkbd cryptomgr.notests lsm=landlock,yama \
                    mayfly.line=vsock mayfly.poweroff=reboot",
            },
            "drives": [
                {
                    "drive_id": "root", "path_on_host": "rootfs.ext4", "is_root_device": false,
                    "is_read_only": true, "cache_type": "Unsafe",
                },
                {
                    "drive_id": "disk", "path_on_host": "disk.img", "is_root_device": false,
                    "is_read_only": false, "cache_type": "Writeback",
                },
                {
                    "drive_id": "files", "path_on_host": "files.img", "is_root_device": false,
                    "is_read_only": true, "cache_type": "Unsafe",
                },
            ],
            "machine-config": { "vcpu_count": 2, "mem_size_mib": 512 },
            "vsock": { "guest_cid": 3, "uds_path": "v.sock" },
            "entropy": {},
            "logger": { "level": "Warn" },
        });
        let built: serde_json::Value = serde_json::from_str(&build(&manifest)).unwrap();
        assert_eq!(built, golden);

        let network = NetworkSettings { mode: NetworkMode::Egress, ..Default::default() };
        let text = build(&VmManifest { network, ..manifest });
        assert!(text.contains("mayfly.net=tun") && !text.contains("network-interfaces"), "{text}");
    }
}
