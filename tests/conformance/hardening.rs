//! What a VMM can do on the host, and a guest to its image.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use mayfly::host::sparse::for_each_extent;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::support::processes::status_field;

const SECRET: &str = "canary-51d2a7";

pub fn the_vmm_is_confined_and_given_nothing(bench: &Bench) {
    let id = bench.env.create(&["--keep", "--mem", "256M"]);
    let mut start = bench.env.command(&["start", &id]);
    start.env("CANARY", SECRET).env("AWS_SECRET_ACCESS_KEY", SECRET);
    let started = assert_cmd::Command::from_std(start).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    let vmm = bench.env.vmm(&id);

    let environment = fs::read(format!("/proc/{vmm}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(!environment.contains(SECRET) && !environment.contains("CANARY"), "{environment}");
    let arguments = fs::read(format!("/proc/{vmm}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(SECRET));
    for entry in fs::read_dir(format!("/proc/{vmm}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let is_lock = target.ends_with(".lock") || target.ends_with("registry.json");
        assert!(!is_lock, "the VMM holds {target}");
        assert!(!target.contains("/pts/"), "the VMM holds the terminal {target}");
    }
    assert_eq!(status_field(vmm, "NoNewPrivs"), "1");
    let limits = fs::read_to_string(format!("/proc/{vmm}/limits")).unwrap();
    // The hard limit.
    let limit = |name: &str| -> Option<u64> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().ok()
    };
    assert_eq!(limit("Max core file size"), Some(0), "a core holds the guest's memory");

    if !bench.skips("a plain host process is confined by nothing, which every listing says") {
        assert_eq!(status_field(vmm, "Seccomp"), "2");
        // The disk is the largest file.
        let disk = bench.env.state().join("vms").join(&id).join("disk.img");
        let (written, disk) = (limit("Max file size"), disk.metadata().unwrap().len());
        assert!(written.is_some_and(|most| disk <= most && most <= 2 * disk), "{limits}");
        if bench.backend == "firecracker" {
            assert_eq!(limit("Max open files"), Some(2048));
        }
        let filters: u32 = status_field(vmm, "Seccomp_filters").parse().unwrap();
        assert!(filters >= 2, "the VMM has its own filter or mayfly's, but not both");
        if bench.backend == "qemu" {
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            assert!(arguments.contains("spawn=deny"), "{arguments}");
        }
        if geteuid().is_root() {
            let ids = status_field(vmm, "Uid");
            let groups = status_field(vmm, "Gid");
            for ids in [ids, groups] {
                let is_its_own = |id: &str| id.parse::<u32>().unwrap() >= FIRST_OF_VMMS;
                assert!(ids.split_whitespace().all(is_its_own), "the VMM has the ids {ids}");
            }
            for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                assert_eq!(status_field(vmm, set), "0000000000000000", "{set}");
            }
            let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
            assert_ne!(
                network(&vmm.to_string()),
                network("self"),
                "the VMM has the host's network"
            );
            let devices = fs::read_to_string(format!("/proc/{vmm}/net/dev")).unwrap();
            assert_eq!(devices.matches(':').count(), 1, "more than loopback: {devices}");
        } else {
            let own = geteuid().to_string();
            let ids = status_field(vmm, "Uid");
            assert!(ids.split_whitespace().all(|id| id == own), "the VMM runs as {ids}");
        }
        if bench.is_jailed {
            is_jailed(vmm, &bench.env.state().join("vms").join(&id).join("jail"));
        }
    }
    bench.env.rm(&id);
}

/// The first of the user ids that are reserved for root's VMs.
const FIRST_OF_VMMS: u32 = 1_900_000_000;

fn is_jailed(vmm: i32, jail: &Path) {
    assert_eq!(status_field(vmm, "Groups"), "", "groups of the host's");
    // The target of the link is no help: inside the jail, its root is `/`.
    let root = fs::metadata(format!("/proc/{vmm}/root")).unwrap();
    let is_root = |path: &Path| {
        fs::metadata(path).is_ok_and(|own| (own.dev(), own.ino()) == (root.dev(), root.ino()))
    };
    assert!(!is_root(Path::new("/")), "the VMM sees the host's files");
    let mut below = vec![jail.to_owned()];
    let found = std::iter::from_fn(|| {
        let path = below.pop()?;
        below.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        Some(path)
    });
    assert!(found.into_iter().any(|path| is_root(&path)), "the VMM's root is not below {jail:?}");
}

/// A digest of a file's data and where it is. Images are mostly holes, and too large for memory.
fn digest(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for_each_extent(&file, &mut |start, end| {
        hash.update(start.to_le_bytes());
        let mut position = start;
        while position < end {
            let wanted = buffer.len().min((end - position) as usize);
            file.read_exact_at(&mut buffer[..wanted], position)?;
            hash.update(&buffer[..wanted]);
            position += wanted as u64;
        }
        Ok(())
    })
    .unwrap();
    hash.update(file.metadata().unwrap().len().to_le_bytes());
    hash.finalize().to_vec()
}

pub fn the_image_stays_as_it_was_built(bench: &Bench) {
    if bench.skips("there is no image") {
        return;
    }
    let vm = bench.vm();
    let status = vm.env.status(&vm.id);
    let file = |field: &str| PathBuf::from(status["metadata"][field].as_str().unwrap());
    let files = [
        file("kernel_image"),
        file("rootfs_image"),
        file("rootfs_image").with_file_name("initrd.img"),
    ];
    let digests = || files.each_ref().map(|path| digest(path));
    let before = digests();
    // Writes to every block device as root, at several offsets.
    let attack = "for dev in /dev/vd?; do for at in 0 1 1000; do \
                  dd if=/dev/urandom of=$dev bs=4096 count=4 seek=$at conv=notrunc,fsync 2>&1 | tail -1; \
                  done; blockdev --setrw $dev; done; ls /dev/vd?";
    let answer = vm.sh(attack);
    assert!(answer.stdout().contains("/dev/vda"), "{answer}");
    // It may fail or not.
    let _ = vm.sh("mount -o remount,rw /; echo x > /etc/hostile; echo x >> /bin/true; sync");
    assert_eq!(digests(), before, "the guest changed its image");
    vm.env.rm(&vm.id);
    // The next VM of the image is not affected.
    vm.env
        .run(&[
            "run",
            "--mem",
            "256M",
            "--",
            "sh",
            "-c",
            "test ! -e /etc/hostile && true && echo clean",
        ])
        .prints("clean\n");
    assert_eq!(digests(), before);
}

/// If a VMM guessed the format of a disk, a header written by the guest could name files of the host for it to open.
pub fn a_disk_is_raw_whatever_is_in_it(bench: &Bench) {
    if bench.skips("there is no disk") {
        return;
    }
    let vm = bench.vm();
    let size = vm.sh("blockdev --getsize64 /dev/vdb").line();
    // A qcow2 header of version 3, with the backing file's name at 104, all before the start of the file system.
    let header = r"QFI\373\0\0\0\3\0\0\0\0\0\0\0\150\0\0\0\13";
    let write = format!(
        "(printf '{header}'; head -c 84 /dev/zero; printf /etc/shadow) | \
         dd of=/dev/vdb conv=notrunc,fsync status=none; sync"
    );
    vm.sh(&write).prints("");
    vm.env.run(&["stop", &vm.id]).prints(&format!("{}\n", vm.id));
    vm.env.run(&["start", &vm.id]).prints(&format!("{}\n", vm.id));
    vm.sh("blockdev --getsize64 /dev/vdb").prints(&format!("{size}\n"));
    vm.sh("head -c 3 /dev/vdb; echo; dd if=/dev/vdb bs=1 skip=104 count=11 status=none")
        .prints("QFI\n/etc/shadow");
}
