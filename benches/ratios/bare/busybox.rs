//! The floor without mayfly's agent: a guest with no program but busybox, which reads a line, runs `true` and answers
//! with a line. Its copies are made as mayfly's are.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cpio::newc::{Builder, ModeFileType, trailer};
use mayfly::backend::{BackendVm, MemorySource};
use mayfly::host::wait::WaitLimit;
use mayfly::host::{directory, sparse, which};
use mayfly::image::MODULES;
use mayfly::model::{BootFiles, FrozenFiles, VmPaths};

use super::vm::connect;
use super::vmm::Vmm;
use super::{BareLauncher, LIMIT};
use crate::samples::ms_since;
use crate::workspace::Workspace;

/// The port on which the guest reads and answers.
const PORT: u32 = 1;

/// What a program needs that is not linked statically.
const DYNAMIC_LINKER: &[u8] = b"/ld-linux-x86-64.so.2";

/// The guest's first process. While no client is connected, reading fails.
const INIT: &str = "#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t sysfs sys /sys
for module in virtio_ring virtio virtio_mmio virtio_blk virtio_console; do
  $bb insmod /modules/$module.ko
done
until port=$($bb grep -lx mayfly.1 /sys/class/virtio-ports/*/name); do $bb usleep 10000; done
port=${port%/name}
exec 3<>/dev/${port##*/}
while :; do
  if read -r line <&3; then $bb true; echo $? >&3; else $bb usleep 10000; fi
done
";

/// A frozen guest.
#[derive(Debug)]
pub struct BusyboxGuest {
    boot: BootFiles,
    frozen: FrozenFiles,
}

impl BareLauncher {
    /// Boots such a guest and freezes it when it has answered.
    ///
    /// # Errors
    /// The host has no busybox, or one that is not linked statically.
    pub fn freeze_busybox(&self, workspace: &Workspace) -> Result<BusyboxGuest> {
        let busybox = which::find(Path::new("busybox")).context("busybox is not installed")?;
        let busybox = fs::read(busybox)?;
        let is_static = !busybox.windows(DYNAMIC_LINKER.len()).any(|it| it == DYNAMIC_LINKER);
        ensure!(is_static, "busybox is not linked statically");
        let directory = workspace.path("busybox");
        directory::ensure_private(&directory)?;
        let boot = BootFiles { initrd: directory.join("initrd"), ..self.boot.clone() };
        let image = self.boot.initrd.parent().context("an image has a directory")?;
        let modules = fs::read(image.join(MODULES))?;
        fs::write(&boot.initrd, [modules, archive(&busybox)?].concat())?;
        let frozen = FrozenFiles {
            memory: directory.join("memory"),
            state: directory.join("state"),
            disk: directory.join("disk"),
        };
        File::create(&frozen.memory)?.set_len(u64::from(self.manifest.mem_mib) << 20)?;
        sparse::clone_file(&self.image.disk_seed(), &frozen.disk)?;

        let paths = self.prepare_directories(workspace)?;
        let memory = MemorySource::ToFreeze(&frozen);
        let machine = BackendVm { memory, ..BackendVm::new(&self.manifest, &paths, Some(&boot)) };
        let start = self.backend.launch(machine)?;
        let _vmm = Vmm::without_jail(start.launch)?;
        let mut stream = dial(&paths)?;
        // The second answer needs no page that the first did not.
        for _ in 0..2 {
            ask(&mut stream)?;
        }
        self.backend.freeze(machine, &start.monitor, &mut WaitLimit::within(LIMIT))?;
        Ok(BusyboxGuest { boot, frozen })
    }

    /// Milliseconds from the start of a copy's VMM until the copy has answered and was killed.
    pub fn busybox_answer(&self, workspace: &Workspace, guest: &BusyboxGuest) -> Result<f64> {
        let paths = self.prepare_directories(workspace)?;
        let begun = Instant::now();
        sparse::clone_file(&guest.frozen.disk, &paths.disk())?;
        let copied_ms = ms_since(begun);
        let memory = MemorySource::Frozen(&guest.frozen);
        let machine =
            BackendVm { memory, ..BackendVm::new(&self.manifest, &paths, Some(&guest.boot)) };
        let start = self.backend.launch(machine)?;
        let begun = Instant::now();
        let vmm = Vmm::without_jail(start.launch)?;
        let mut stream = dial(&paths)?;
        self.backend.thaw(machine, &start.monitor, &mut WaitLimit::within(LIMIT))?;
        ask(&mut stream)?;
        drop(vmm);
        Ok(copied_ms + ms_since(begun))
    }
}

fn dial(paths: &VmPaths) -> Result<UnixStream> {
    let stream = connect(&paths.port(PORT))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn ask(stream: &mut UnixStream) -> Result<()> {
    stream.write_all(b"true\n")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer == "0\n", "busybox answered {answer:?}");
    Ok(())
}

/// The files of the guest, as the kernel unpacks them after the modules.
fn archive(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let files = [("bin/busybox", busybox), ("init", INIT.as_bytes())];
    let directory = ("bin", &[][..]);
    for (number, (name, content)) in [directory].into_iter().chain(files).enumerate() {
        let kind = if content.is_empty() { ModeFileType::Directory } else { ModeFileType::Regular };
        // The modules have the first numbers.
        let entry = Builder::new(name).ino(1000 + u32::try_from(number)?).mode(0o755);
        let length = u32::try_from(content.len())?;
        let mut writer = entry.set_mode_file_type(kind).write(&mut archive, length);
        writer.write_all(content)?;
        writer.finish()?;
    }
    trailer(&mut archive)?;
    Ok(archive)
}
