//! QEMU: the microvm machine, with KVM where the host has it and pure emulation everywhere else.

mod arguments;

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use self::arguments::{Arguments, Opened};
use super::claim::Dialled;
use super::{Backend, Machine, Purpose, port};
use crate::host::gate::{Bounds, Launch, Program, User};
use crate::host::tsc::Calibration;
use crate::host::wait::Wait;
use crate::host::{kvm, log};
use crate::model::{Accelerator, BackendKind};

/// Runs `qemu-system-x86_64`.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The program, as an absolute path.
    pub program: PathBuf,
    pub accelerator: Accelerator,
    /// Begun when the backend was chosen; an emulated guest must be told the rate.
    pub tsc: Calibration,
}

impl Backend for Qemu {
    fn kind(&self) -> BackendKind {
        BackendKind::Qemu
    }

    fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    fn boots_image(&self) -> bool {
        true
    }

    /// Every file and socket is opened here and handed over by number: QEMU opens nothing by name,
    /// so it can run as a user that owns nothing, in a directory it cannot write.
    fn launch(&self, machine: Machine) -> Result<Launch> {
        let boot = machine.boot.context("a QEMU VM boots an image")?;
        let limit = log::limit(machine.largest_file()?);
        let mut files = Vec::new();
        let mut keep = |file: OwnedFd| -> RawFd {
            let number = file.as_raw_fd();
            files.push(file);
            number
        };
        let opened = Opened {
            kernel: keep(open(&boot.kernel, false)?),
            initrd: keep(open(&boot.initrd, false)?),
            rootfs: keep(open(&boot.rootfs, false)?),
            disk: keep(open(&machine.paths.disk(), true)?),
            console: keep(log::open(&machine.paths.console(), Some(limit))?.into()),
            ports: port::listen(machine.paths)?.into_iter().map(keep).collect(),
        };
        let arguments = Arguments {
            name: machine.manifest.vm_id.as_str(),
            vcpu_count: machine.manifest.vcpu_count,
            mem_mib: machine.manifest.mem_mib,
            accelerator: self.accelerator,
            nested: machine.manifest.nested,
            tsc_khz: self.tsc.khz(),
            opened: &opened,
        };
        let program = Program {
            path: self.program.clone(),
            args: arguments.build(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: machine.manifest.vmm_uid.map(|uid| self.user(uid)),
            files: Vec::new(),
            bounds: Bounds { file_size: Some(limit), ..Bounds::default() },
        };
        let log = log::open(&machine.paths.vmm_log(), Some(limit))?;
        Ok(Launch { program, files, output: None, log })
    }

    fn dial(&self, machine: Machine, purpose: Purpose, wait: &mut Wait<'_>) -> Result<Dialled> {
        port::dial(machine.paths, purpose, wait)
    }

    fn boot_deadline(&self) -> Duration {
        match self.accelerator {
            // A boot takes two seconds on an idle machine; a crowd of them on few cores, minutes.
            Accelerator::Tcg => Duration::from_secs(180),
            Accelerator::Kvm | Accelerator::None => Duration::from_secs(30),
        }
    }
}

impl Qemu {
    fn user(&self, uid: u32) -> User {
        let groups = match self.accelerator {
            Accelerator::Kvm => kvm::device_group().into_iter().collect(),
            Accelerator::Tcg | Accelerator::None => Vec::new(),
        };
        User { uid, gid: uid, groups }
    }
}

fn open(path: &Path, write: bool) -> Result<OwnedFd> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Ok(file.into())
}
