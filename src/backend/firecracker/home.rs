//! Preparing the directory that a VMM starts in, and its command line, with and without a jail.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::configuration::{self, API, DISK, FILES, INITRD, KERNEL, MEMORY, ROOTFS, STATE};
use crate::backend::interface::{BackendVm, MemorySource};
use crate::host::cgroup::{self, CgroupHierarchy};
use crate::host::launcher::{BindAccess, BindMount, HostUser, LaunchBounds, LaunchProgram};
use crate::host::seccomp::SyscallFilter;
use crate::host::{directory, kvm};
use crate::model::{BootFiles, FrozenFiles, Refusal, RefusalKind, VmManifest};

/// The memory of the VMM itself and of its disk's page cache, in MiB. A control group counts it in
/// addition to the guest's memory.
const OVERHEAD_MIB: u64 = 128;

/// The threads of a VMM in addition to those of its vCPUs. It has three.
const THREADS: u32 = 16;

/// The jailer's own default (`docs/jailer.md` of Firecracker).
const OPEN_FILES: u64 = 2048;

/// The programs, as absolute paths.
#[derive(Debug)]
pub struct JailPrograms {
    pub firecracker: PathBuf,
    /// `None` to start Firecracker directly.
    pub jailer: Option<PathBuf>,
}

/// Recreates the VMM's home and returns how to start the VMM in it. `file_size` limits the files it writes.
///
/// Everything that was there is deleted, and nothing is reused: files that an earlier VMM could write
/// must not affect this one, or root.
pub fn prepare(
    vm: BackendVm,
    boot: &BootFiles,
    programs: &JailPrograms,
    file_size: u64,
) -> Result<LaunchProgram> {
    let (manifest, paths) = (vm.manifest, vm.paths);
    let home = paths.vmm_home(programs.jailer.is_some());
    directory::remove(&paths.jail())?;
    directory::remove(&paths.vmm_home(false))?;
    let above: Vec<&Path> = home.ancestors().take_while(|path| **path != paths.dir).collect();
    above.into_iter().rev().try_for_each(directory::create_new)?;
    if boots(vm.memory) {
        let text = configuration::build(manifest);
        write_file(&home.join(configuration::FILE), text.as_bytes(), READABLE_BY_ALL)?;
    }
    if let MemorySource::ToFreeze(files) = vm.memory {
        // The files for memory and disk exist already.
        write_file(&files.state, b"", 0o600)?;
    }

    let files = files(vm, boot)?;
    let mut bounds = LaunchBounds { file_size: Some(file_size), ..LaunchBounds::default() };
    let Some(uid) = manifest.vmm_uid else {
        // A VMM of an ordinary user can open the files itself.
        for (file, name, _) in files {
            symlink(&file, home.join(name)).context("cannot make a link")?;
        }
        return Ok(without_jail(programs, vm, home, None, bounds));
    };

    // A VMM that root starts runs as another user, who can open none of root's files by name. The files
    // are mounted in its home instead, where their modes decide.
    bounds.no_network = true;
    for (file, name, access) in files {
        if access == BindAccess::Write {
            chown(&file, uid)?;
        }
        bounds.binds.push(bind(file, home.join(name), access)?);
    }
    match &programs.jailer {
        Some(jailer) => {
            check_mount(&paths.dir)?;
            let bin = paths.jail().join("bin");
            directory::create_new(&bin)?;
            // Always under this name, because the jailer creates a directory named after it.
            let program = bin.join("firecracker");
            bounds.binds.push(bind(
                programs.firecracker.clone(),
                program.clone(),
                BindAccess::Execute,
            )?);
            bounds.syscalls = Some(SyscallFilter::Jailer);
            let jail =
                Jail { vm, uid, base: &paths.jail(), program: &program, cgroups: cgroup::usable() };
            Ok(LaunchProgram {
                path: jailer.clone(),
                args: jail.arguments(),
                cwd: PathBuf::from("/"),
                bounds,
                ..LaunchProgram::default()
            })
        }
        None => {
            chown(&home, uid)?;
            let groups = kvm::device_group().into_iter().collect();
            let user = HostUser { uid, gid: uid, groups };
            Ok(without_jail(programs, vm, home, Some(user), bounds))
        }
    }
}

/// After a freeze, makes the files the caller's again, and its memory and state read-only.
pub fn reclaim(manifest: &VmManifest, files: &FrozenFiles) -> Result<()> {
    if manifest.vmm_uid.is_some() {
        let me = geteuid().as_raw();
        for path in [&files.memory, &files.state, &files.disk] {
            chown(path, me)?;
        }
    }
    for path in [&files.memory, &files.state] {
        std::fs::set_permissions(path, Permissions::from_mode(0o444))
            .with_context(|| format!("cannot protect {}", path.display()))?;
    }
    Ok(())
}

/// The files in a VMM's home: their paths, their names there, and how they may be accessed.
fn files(vm: BackendVm, boot: &BootFiles) -> Result<Vec<(PathBuf, &'static str, BindAccess)>> {
    let mut files = vec![
        (boot.rootfs.clone(), ROOTFS, BindAccess::Read),
        (vm.disk(), DISK, BindAccess::Write),
        (vm.files_disk()?, FILES, BindAccess::Read),
    ];
    if boots(vm.memory) {
        files.push((boot.kernel.clone(), KERNEL, BindAccess::Read));
        files.push((boot.initrd.clone(), INITRD, BindAccess::Read));
    }
    let frozen = match vm.memory {
        MemorySource::Fresh => None,
        MemorySource::ToFreeze(frozen) => Some((frozen, BindAccess::Write)),
        MemorySource::Frozen(frozen) => Some((frozen, BindAccess::Read)),
    };
    if let Some((frozen, access)) = frozen {
        files.push((frozen.memory.clone(), MEMORY, access));
        files.push((frozen.state.clone(), STATE, access));
    }
    Ok(files)
}

fn boots(memory: MemorySource) -> bool {
    !matches!(memory, MemorySource::Frozen(_))
}

/// Starts Firecracker without a jail, with the limit on open files that the jailer would set.
fn without_jail(
    programs: &JailPrograms,
    vm: BackendVm,
    cwd: PathBuf,
    user: Option<HostUser>,
    bounds: LaunchBounds,
) -> LaunchProgram {
    let mut args = vec!["--id".to_owned(), vm.manifest.vm_id.to_string()];
    args.extend(arguments(vm.memory).iter().map(|&argument| argument.to_owned()));
    let path = programs.firecracker.clone();
    let syscalls = Some(SyscallFilter::Vmm);
    let bounds = LaunchBounds { open_files: Some(OPEN_FILES), syscalls, ..bounds };
    LaunchProgram { path, args, cwd, user, bounds, ..LaunchProgram::default() }
}

/// A VMM that only boots needs no API; it logs why it fails. One that is to be frozen gets an API, and
/// a copy of a frozen VM is configured by its API only.
fn arguments(memory: MemorySource) -> &'static [&'static str] {
    match memory {
        MemorySource::Fresh => &["--no-api", "--config-file", configuration::FILE],
        MemorySource::ToFreeze(_) => &["--api-sock", API, "--config-file", configuration::FILE],
        MemorySource::Frozen(_) => &["--api-sock", API, "--level", configuration::LOG_LEVEL],
    }
}

/// Everything the jailer's command line depends on.
struct Jail<'a> {
    vm: BackendVm<'a>,
    uid: u32,
    base: &'a Path,
    program: &'a Path,
    cgroups: Option<CgroupHierarchy>,
}

impl Jail<'_> {
    fn arguments(&self) -> Vec<String> {
        let id = self.vm.manifest.vm_id.as_str();
        let uid = self.uid.to_string();
        let mut args: Vec<String> = Vec::new();
        let mut add =
            |option: &str, value: &str| args.extend([option.to_owned(), value.to_owned()]);
        add("--id", id);
        add("--exec-file", &self.program.display().to_string());
        add("--uid", &uid);
        add("--gid", &uid);
        add("--chroot-base-dir", &self.base.display().to_string());
        add("--resource-limit", &format!("no-file={OPEN_FILES}"));
        if let Some(hierarchy) = self.cgroups {
            let version = match hierarchy {
                CgroupHierarchy::V1 => "1",
                CgroupHierarchy::V2 => "2",
            };
            add("--cgroup-version", version);
            add("--parent-cgroup", cgroup::PARENT);
            for limit in self.limits(hierarchy) {
                add("--cgroup", &limit);
            }
        }
        args.push("--".to_owned());
        args.extend(arguments(self.vm.memory).iter().map(|&argument| argument.to_owned()));
        args
    }

    /// The guest's resources, and some more for the VMM.
    fn limits(&self, hierarchy: CgroupHierarchy) -> [String; 3] {
        let VmManifest { mem_mib, vcpu_count, .. } = *self.vm.manifest;
        let memory = (u64::from(mem_mib) + OVERHEAD_MIB) << 20;
        // In microseconds per 100,000: one more CPU than the guest has, for its devices.
        let quota = (vcpu_count + 1) * 100_000;
        let pids = vcpu_count + THREADS;
        match hierarchy {
            CgroupHierarchy::V1 => [
                format!("memory.limit_in_bytes={memory}"),
                format!("cpu.cfs_quota_us={quota}"),
                format!("pids.max={pids}"),
            ],
            CgroupHierarchy::V2 => [
                format!("memory.max={memory}"),
                format!("cpu.max={quota} 100000"),
                format!("pids.max={pids}"),
            ],
        }
    }
}

/// Refuses file systems that allow no device files or programs, because the jail contains both.
fn check_mount(directory: &Path) -> Result<()> {
    let about = statvfs(directory).context("cannot look at the state directory's file system")?;
    for (flag, name) in [(StatVfsMountFlags::NODEV, "nodev"), (StatVfsMountFlags::NOEXEC, "noexec")]
    {
        if about.f_flag.contains(flag) {
            let message = format!(
                "the jailer cannot work in {}: its file system is mounted with {name}",
                directory.display()
            );
            return Err(Refusal::new(RefusalKind::Host, message)
                .hint("name another state directory with --state-dir, or create with --no-jailer")
                .into());
        }
    }
    Ok(())
}

/// Creates a file to mount another one on.
fn bind(file: PathBuf, at: PathBuf, access: BindAccess) -> Result<BindMount> {
    write_file(&at, b"", READABLE_BY_ALL)?;
    Ok(BindMount { file, at, access })
}

/// The mode of a file that every user can read.
const READABLE_BY_ALL: u32 = 0o444;

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))
        })
        .with_context(|| format!("cannot create {}", path.display()))
}

fn chown(path: &Path, uid: u32) -> Result<()> {
    std::os::unix::fs::chown(path, Some(uid), Some(uid))
        .with_context(|| format!("cannot give {} to user {uid}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VmPaths;

    fn manifest() -> VmManifest {
        let vmm_uid = Some(1_900_000_007);
        VmManifest { vcpu_count: 2, mem_mib: 512, jailed: true, vmm_uid, ..VmManifest::sample() }
    }

    fn paths() -> VmPaths {
        VmPaths::new(Path::new("/s"), Path::new("/r"), &manifest().vm_id)
    }

    fn frozen(directory: &Path) -> FrozenFiles {
        let file = |name: &str| directory.join(name);
        FrozenFiles { memory: file("m"), state: file("s"), disk: file("d") }
    }

    fn jailed(memory: MemorySource, cgroups: Option<CgroupHierarchy>) -> String {
        let (manifest, paths) = (manifest(), paths());
        let jail = Jail {
            vm: BackendVm { memory, ..BackendVm::new(&manifest, &paths, None) },
            uid: 1_900_000_007,
            base: Path::new("/s/vms/x/jail"),
            program: Path::new("/s/vms/x/jail/bin/firecracker"),
            cgroups,
        };
        jail.arguments().join(" ").replace(manifest.vm_id.as_str(), "ID")
    }

    const BEFORE: &str = "--id ID --exec-file /s/vms/x/jail/bin/firecracker --uid 1900000007 \
        --gid 1900000007 --chroot-base-dir /s/vms/x/jail --resource-limit no-file=2048";
    const AFTER: &str = "--no-api --config-file config.json";

    #[test]
    fn a_jail_on_each_kind_of_host() {
        let jailed = |cgroups| jailed(MemorySource::Fresh, cgroups);
        assert_eq!(jailed(None), format!("{BEFORE} -- {AFTER}"));
        let limits = "--cgroup memory.max=671088640 --cgroup cpu.max=300000 100000 \
            --cgroup pids.max=18";
        let second = format!("--cgroup-version 2 --parent-cgroup mayfly {limits}");
        assert_eq!(jailed(Some(CgroupHierarchy::V2)), format!("{BEFORE} {second} -- {AFTER}"));
        let limits = "--cgroup memory.limit_in_bytes=671088640 --cgroup cpu.cfs_quota_us=300000 \
            --cgroup pids.max=18";
        let first = format!("--cgroup-version 1 --parent-cgroup mayfly {limits}");
        assert_eq!(jailed(Some(CgroupHierarchy::V1)), format!("{BEFORE} {first} -- {AFTER}"));
    }

    #[test]
    fn only_a_vmm_that_freezes_or_resumes_a_vm_has_an_api() {
        let (manifest, paths) = (manifest(), paths());
        let files = frozen(Path::new("/t"));
        let to_freeze = "--api-sock api.sock --config-file config.json";
        let thawed = "--api-sock api.sock --level Warn";
        let cases = [
            (MemorySource::Fresh, AFTER),
            (MemorySource::ToFreeze(&files), to_freeze),
            (MemorySource::Frozen(&files), thawed),
        ];
        for (memory, expected) in cases {
            assert_eq!(jailed(memory, None), format!("{BEFORE} -- {expected}"));
            let vm = BackendVm { memory, ..BackendVm::new(&manifest, &paths, None) };
            let programs = JailPrograms { firecracker: "/bin/firecracker".into(), jailer: None };
            let program =
                without_jail(&programs, vm, "/home".into(), None, LaunchBounds::default());
            let args = program.args.join(" ").replace(manifest.vm_id.as_str(), "ID");
            assert_eq!(args, format!("--id ID {expected}"));
        }
    }

    /// A home that contains links to another directory.
    #[test]
    fn a_home_is_recreated_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("canary"), "alive").unwrap();
        let manifest = VmManifest { vmm_uid: None, jailed: false, ..manifest() };
        let paths = VmPaths::new(dir.path(), dir.path(), &manifest.vm_id);
        std::fs::create_dir_all(&paths.dir).unwrap();
        symlink(&elsewhere, paths.jail()).unwrap();
        symlink(&elsewhere, paths.vmm_home(false)).unwrap();
        let file = |name: &str| dir.path().join(name);
        let boot = BootFiles { kernel: file("k"), initrd: file("i"), rootfs: file("r") };
        let fresh = BackendVm::new(&manifest, &paths, Some(&boot));
        let files = frozen(dir.path());
        let programs = JailPrograms { firecracker: "/usr/bin/firecracker".into(), jailer: None };
        let to_boot =
            ["config.json", "disk.img", "files.img", "initrd.img", "rootfs.ext4", "vmlinux"];
        let to_freeze = [&to_boot[..4], &["memory", "rootfs.ext4", "state", "vmlinux"]].concat();
        let to_thaw = ["disk.img", "files.img", "memory", "rootfs.ext4", "state"];
        let cases: [(MemorySource, &[&str]); 4] = [
            (MemorySource::Fresh, &to_boot),
            (MemorySource::Fresh, &to_boot),
            (MemorySource::ToFreeze(&files), &to_freeze),
            (MemorySource::Frozen(&files), &to_thaw),
        ];
        for (memory, expected) in cases {
            let vm = BackendVm { memory, ..fresh };
            let program = prepare(vm, &boot, &programs, 1 << 30).unwrap();
            assert_eq!(program.cwd, paths.vmm_home(false));
            assert!(!program.cwd.is_symlink() && !paths.jail().is_symlink());
            let mut names = directory::names(&program.cwd).unwrap();
            names.sort();
            assert_eq!(names, expected);
            let template = matches!(memory, MemorySource::ToFreeze(_)).then_some(&files.disk);
            let disk = std::fs::read_link(program.cwd.join(DISK)).unwrap();
            assert_eq!(&disk, template.unwrap_or(&paths.disk()));
        }
        assert_eq!(files.state.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(directory::names(&elsewhere).unwrap(), ["canary"]);
    }
}
