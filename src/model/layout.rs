//! The names of mayfly's directories, and the paths of a VM's files.

use std::path::{Path, PathBuf};

use super::id::VmId;

/// In the state directory: a directory for each VM.
pub const VMS: &str = "vms";

/// In the state directory: a lock for each VM.
pub const LOCKS: &str = "locks";

/// In the artifacts directory, beside the images: the templates.
pub const TEMPLATES: &str = "templates";

/// In the artifacts directory, beside the images: what was fetched from registries.
pub const BLOBS: &str = "blobs";

/// In the artifacts directory, beside the images: programs that are preferred to those on `PATH`.
pub const PROGRAMS: &str = "bin";

/// How many commands may run in a VM at the same time. Each has a port, because a virtio-serial port
/// carries one stream.
pub const SESSION_PORTS: u32 = 8;

/// The port for mayfly's own requests (set-up, shutdown), which no command uses.
pub const CONTROL_PORT: u32 = 0;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last of which is zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// The size in bytes of a VM's files disk. It is part of what a template remembers, so it is always the same. The file
/// takes only what is written to it.
pub const FILES_DISK_SIZE: u64 = 64 << 30;

/// The two directories of a VM: one for its files, one for its sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPaths {
    pub dir: PathBuf,
    pub run: PathBuf,
}

impl VmPaths {
    pub fn new(state: &Path, run: &Path, id: &VmId) -> Self {
        VmPaths { dir: state.join(VMS).join(id.as_str()), run: run.join(id.as_str()) }
    }

    pub fn manifest(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    /// The process that was last started as its VMM; absent if that is proven gone.
    pub fn instance(&self) -> PathBuf {
        self.dir.join("instance.json")
    }

    /// Defaults of its commands; absent if there are none.
    pub fn command(&self) -> PathBuf {
        self.dir.join("command.json")
    }

    /// The VM's writable disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// A disk that the VM can only read, for the files that `run` copies into it.
    pub fn files_disk(&self) -> PathBuf {
        self.dir.join("files.img")
    }

    /// What the guest's serial console printed.
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// What the VMM itself printed.
    pub fn vmm_log(&self) -> PathBuf {
        self.dir.join("vmm.log")
    }

    /// The home and working directory of commands on the mock backend.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// The secrets of running commands on the mock backend.
    pub fn secrets(&self) -> PathBuf {
        self.run.join("secrets")
    }

    /// The jail of a VMM, which is deleted when the VMM ends.
    pub fn jail(&self) -> PathBuf {
        self.dir.join("jail")
    }

    /// The directory in which Firecracker starts and finds its files: the root of its jail, if it has one.
    pub fn vmm_home(&self, jailed: bool) -> PathBuf {
        if !jailed {
            return self.dir.join("vmm");
        }
        // The jailer makes it: the base directory, the name of the program, the id it is given, `root`.
        let id = self.dir.file_name().unwrap_or_default();
        self.jail().join("firecracker").join(id).join("root")
    }

    /// The socket of one agent port.
    pub fn port(&self, number: u32) -> PathBuf {
        self.run.join(format!("port.{number}"))
    }

    /// The socket of the VMM's monitor.
    pub fn monitor(&self) -> PathBuf {
        self.run.join("qmp")
    }

    /// The socket of the VM's network card, for the network helper.
    pub fn network(&self) -> PathBuf {
        self.run.join("net")
    }

    /// What the network helper denied.
    pub fn network_log(&self) -> PathBuf {
        self.dir.join("network.log")
    }

    /// The lock of one agent port.
    pub fn port_claim(&self, number: u32) -> PathBuf {
        self.run.join(format!("port.{number}.lock"))
    }

    /// The longest of the sockets' paths. `create` checks that it is not too long.
    pub fn longest_socket(&self) -> PathBuf {
        self.port(SESSION_PORTS)
    }
}

/// The files a VM boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub rootfs: PathBuf,
}

/// The files of a frozen VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenFiles {
    /// The guest's memory, byte for byte.
    pub memory: PathBuf,
    /// The state of CPUs and devices, in a form that only the VMM knows.
    pub state: PathBuf,
    /// The VM's disk at that moment.
    pub disk: PathBuf,
}
