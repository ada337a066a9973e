//! Building QEMU's command line.

use std::os::fd::RawFd;

use crate::model::{Accelerator, VmManifest};
use crate::protocol::network::GUEST_MAC;

/// The open files that QEMU inherits, by their descriptor numbers.
#[derive(Debug, Default)]
pub struct InheritedFiles {
    pub kernel: RawFd,
    pub initrd: RawFd,
    pub rootfs: RawFd,
    pub disk: RawFd,
    /// The files disk.
    pub files: RawFd,
    pub console: RawFd,
    /// Listening sockets, the control port first.
    pub ports: Vec<RawFd>,
    /// The guest's memory, if it is in a file.
    pub memory: Option<(RawFd, MemoryMapping)>,
    /// The QMP connection.
    pub monitor: Option<RawFd>,
    /// A listening socket for further QMP connections, one after another.
    pub later_monitor: RawFd,
    /// A listening socket for the network helper, one after another.
    pub network: Option<RawFd>,
}

/// How the guest's memory is mapped from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMapping {
    /// What the guest writes goes to the file.
    Shared,
    /// What the guest writes goes to a private copy, and the file stays unchanged.
    Private,
    /// Like `Private`, from a file that QEMU cannot write. QEMU before 8.2 opens the file for writing
    /// even if it maps it privately.
    PrivateReadOnly,
}

/// Everything TCG can emulate, including AMD's virtualization, except for features that make an
/// emulated guest slower. With `erms`, the kernel and the C library copy memory by `rep movsb`, which
/// TCG executes byte by byte: without it a boot takes three quarters of the time, and copying memory
/// less than half. `fsrm`, which newer QEMUs emulate, must be disabled too: Linux 6.1 assumes `erms` if
/// it sees `fsrm`, and its `memmove` then overruns. `la57` adds a fifth level to every page table walk,
/// for address spaces beyond 128 TiB.
const EMULATED_CPU: &str = "max,-erms,-fsrm,-la57";

/// Hides virtualization from a guest that did not ask for it, to reduce the attack surface.
const NOT_NESTED: &str = ",-svm,-vmx";

/// Features of the network card for what never happens here: the line has one peer, does not go down, and is not moved.
/// Without them, each copy of a template executes 14 ms less of code that the emulator has not translated yet: the driver
/// asks for no announcement, and does not look at the link. The `ctrl_` ones depend on `ctrl_vq`.
const UNUSED_NETWORK_FEATURES: [&str; 8] = [
    "status",
    "guest_announce",
    "ctrl_vq",
    "ctrl_rx",
    "ctrl_rx_extra",
    "ctrl_vlan",
    "ctrl_mac_addr",
    "ctrl_guest_offloads",
];

/// MiB of translated code that an emulator keeps. A boot takes 50. When it is full, the emulator begins again, which costs
/// little beside translating so much. QEMU's default is 1024.
const TRANSLATED_MIB: u32 = 256;

/// The arguments, without the program's name. `tsc_khz` is the rate of the host's time stamp counter, and
/// `name` part of the process's name.
pub fn build(
    manifest: &VmManifest,
    name: &str,
    tsc_khz: u64,
    opened: &InheritedFiles,
) -> Vec<String> {
    let VmManifest { mem_mib, vcpu_count, nested, .. } = *manifest;
    let kvm = manifest.accelerator == Accelerator::Kvm;
    let mut args: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);

    add("-name", format!("mayfly-{}", name));
    // ACPI is needed to power off, and because Debian's kernel finds virtio-mmio devices no other way.
    let mut machine = String::from("microvm,acpi=on,rtc=on,isa-serial=on");
    if let Some((file, mapping)) = opened.memory {
        machine.push_str(",memory-backend=memory");
        let how = match mapping {
            MemoryMapping::Shared => "share=on",
            MemoryMapping::Private => "share=off",
            MemoryMapping::PrivateReadOnly => "share=off,readonly=on,rom=off",
        };
        let path = format!("/proc/self/fd/{file}");
        add(
            "-object",
            format!("memory-backend-file,id=memory,size={mem_mib}M,mem-path={path},{how}"),
        );
        if mapping != MemoryMapping::Shared {
            add("-incoming", "defer".into());
        }
    }
    add("-M", machine);
    // QEMU's own firmware for this machine. The default, SeaBIOS, comes from another package and
    // loses one of the ACPI tables with newer QEMUs.
    add("-bios", "qboot.rom".into());
    let emulated = || format!("tcg,thread=multi,tb-size={TRANSLATED_MIB}");
    add("-accel", if kvm { "kvm".into() } else { emulated() });
    let cpu = if kvm { "host" } else { EMULATED_CPU };
    let without = if nested { "" } else { NOT_NESTED };
    add("-cpu", format!("{cpu}{without}"));
    add("-smp", vcpu_count.to_string());
    add("-m", format!("{mem_mib}M"));
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        add(flag, String::new());
    }
    add("-display", "none".into());
    add(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    );

    add("-kernel", format!("/proc/self/fd/{}", opened.kernel));
    add("-initrd", format!("/proc/self/fd/{}", opened.initrd));
    add("-append", kernel_command_line(kvm, nested, opened.network.is_some(), tsc_khz));

    // Both layers are explicitly raw, so that QEMU does not probe the format: a guest could write
    // the header of another one to its disk. No file locking: a base image is shared, and a disk is
    // guarded by the VM's lock. QEMU would drop the host's cached pages of these files at the start of a copy, as if
    // another host had written them, and the next guest would read the image from the disk again.
    for (set, node, file, read_only) in [
        (1, "root", opened.rootfs, true),
        (2, "disk", opened.disk, false),
        (4, "files", opened.files, true),
    ] {
        let mode = if read_only { "read-only=on" } else { "discard=unmap" };
        add("-add-fd", format!("fd={file},set={set}"));
        add(
            "-blockdev",
            format!(
                "driver=file,node-name={node}-file,filename=/dev/fdset/{set},locking=off,\
                 drop-cache=off,{mode}"
            ),
        );
        add("-blockdev", format!("driver=raw,node-name={node},file={node}-file,{mode}"));
        // The guest waits while the host's disk is full, and gets every other error.
        let on_error = if read_only { "" } else { ",werror=enospc" };
        add("-device", format!("virtio-blk-device,drive={node}{on_error}"));
    }

    add("-add-fd", format!("fd={},set=3", opened.console));
    add("-chardev", "file,id=console,path=/dev/fdset/3,append=on".into());
    add("-serial", "chardev:console".into());

    add("-device", "virtio-rng-device".into());
    add("-device", "virtio-serial-device".into());
    if let Some(monitor) = opened.monitor {
        add("-chardev", format!("socket,id=monitor,fd={monitor}"));
        add("-mon", "chardev=monitor,mode=control".into());
    }
    add("-chardev", format!("socket,id=later,fd={},server=on,wait=off", opened.later_monitor));
    add("-mon", "chardev=later,mode=control".into());
    if let Some(network) = opened.network {
        let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        // A listening socket lets another helper take over if one was killed.
        add("-netdev", format!("stream,id=network,server=on,addr.type=fd,addr.str={network}"));
        let off = UNUSED_NETWORK_FEATURES.map(|feature| format!(",{feature}=off")).concat();
        add("-device", format!("virtio-net-device,netdev=network,mac={mac}{off}"));
    }
    for (number, socket) in opened.ports.iter().enumerate() {
        add("-chardev", format!("socket,id=port{number},fd={socket},server=on,wait=off"));
        add("-device", format!("virtserialport,chardev=port{number},name=mayfly.{number}"));
    }
    args.retain(|argument| !argument.is_empty());
    args
}

fn kernel_command_line(kvm: bool, nested: bool, has_network: bool, tsc_khz: u64) -> String {
    // The kernel's self-tests of its ciphers take a sixth of an emulated boot. They find
    // miscompiled kernels, and this kernel comes from its distribution. AppArmor and Tomoyo, which have no
    // policy in a guest, would be asked about every file and program all the same.
    let mut line =
        String::from("console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests lsm=landlock,yama");
    if !kvm {
        // A microvm has no PIT, HPET or PM timer to calibrate the counter with: about half of the emulated
        // boots hang in that loop unless the rate is given. For the same reason, the kernel would check the
        // counter against the guest's ticks, which a busy host delivers late, and would stop using it.
        line.push_str(&format!(" tsc_early_khz={tsc_khz} tsc=reliable"));
        // An emulated CPU does not speculate.
        line.push_str(" mitigations=off");
        // QEMU before 8 translates a program's code again for every address it is loaded at. With
        // random addresses, starting a program takes three times as long.
        line.push_str(" norandmaps");
    }
    if has_network {
        line.push_str(" mayfly.net=ethernet");
    }
    if nested {
        line.push_str(" mayfly.nested");
    }
    line
}
#[cfg(test)]
mod tests {
    use super::*;

    fn line(accelerator: Accelerator, nested: bool) -> String {
        line_with(accelerator, nested, None)
    }

    fn line_with(
        accelerator: Accelerator,
        nested: bool,
        memory: Option<(RawFd, MemoryMapping)>,
    ) -> String {
        let opened = InheritedFiles {
            kernel: 10,
            initrd: 11,
            rootfs: 12,
            disk: 13,
            files: 20,
            console: 14,
            ports: vec![15, 16],
            memory,
            monitor: memory.map(|_| 18),
            later_monitor: 19,
            network: None,
        };
        let manifest = VmManifest { vcpu_count: 2, mem_mib: 512, ..VmManifest::sample() };
        let manifest = VmManifest { accelerator, nested, ..manifest };
        build(&manifest, "0123456789ab", 2_596_000, &opened).join(" ")
    }

    #[test]
    fn an_emulated_vm() {
        let golden = "\
            -name mayfly-0123456789ab -M microvm,acpi=on,rtc=on,isa-serial=on -bios qboot.rom \
            -accel tcg,thread=multi,tb-size=256 -cpu max,-erms,-fsrm,-la57,-svm,-vmx -smp 2 -m 512M -nodefaults -no-user-config -no-reboot \
            -display none \
            -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
            -kernel /proc/self/fd/10 -initrd /proc/self/fd/11 \
            -append console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests lsm=landlock,yama \
            tsc_early_khz=2596000 tsc=reliable mitigations=off norandmaps \
            -add-fd fd=12,set=1 \
            -blockdev driver=file,node-name=root-file,filename=/dev/fdset/1,locking=off,drop-cache=off,read-only=on \
            -blockdev driver=raw,node-name=root,file=root-file,read-only=on \
            -device virtio-blk-device,drive=root \
            -add-fd fd=13,set=2 \
            -blockdev driver=file,node-name=disk-file,filename=/dev/fdset/2,locking=off,drop-cache=off,discard=unmap \
            -blockdev driver=raw,node-name=disk,file=disk-file,discard=unmap \
            -device virtio-blk-device,drive=disk,werror=enospc \
            -add-fd fd=20,set=4 \
            -blockdev driver=file,node-name=files-file,filename=/dev/fdset/4,locking=off,drop-cache=off,read-only=on \
            -blockdev driver=raw,node-name=files,file=files-file,read-only=on \
            -device virtio-blk-device,drive=files \
            -add-fd fd=14,set=3 -chardev file,id=console,path=/dev/fdset/3,append=on \
            -serial chardev:console -device virtio-rng-device -device virtio-serial-device \
            -chardev socket,id=later,fd=19,server=on,wait=off \
            -mon chardev=later,mode=control \
            -chardev socket,id=port0,fd=15,server=on,wait=off \
            -device virtserialport,chardev=port0,name=mayfly.0 \
            -chardev socket,id=port1,fd=16,server=on,wait=off \
            -device virtserialport,chardev=port1,name=mayfly.1";
        assert_eq!(line(Accelerator::Tcg, false), golden);
    }

    #[test]
    fn a_frozen_vm_and_its_copies() {
        for (mapping, how, waits) in [
            (MemoryMapping::Shared, "share=on", false),
            (MemoryMapping::Private, "share=off", true),
            (MemoryMapping::PrivateReadOnly, "share=off,readonly=on,rom=off", true),
        ] {
            let fresh = line(Accelerator::Tcg, false);
            let line = line_with(Accelerator::Tcg, false, Some((17, mapping)));
            let memory = format!(
                "-object memory-backend-file,id=memory,size=512M,mem-path=/proc/self/fd/17,{how} "
            );
            let incoming = if waits { "-incoming defer " } else { "" };
            let monitor = "-chardev socket,id=monitor,fd=18 -mon chardev=monitor,mode=control ";
            let rest = line
                .replacen(&memory, "", 1)
                .replacen(incoming, "", 1)
                .replacen(monitor, "", 1)
                .replacen(",memory-backend=memory", "", 1);
            assert_eq!(rest, fresh, "{line}");
            assert_eq!(line.contains("-incoming"), waits);
        }
    }

    #[test]
    fn kvm_uses_the_hosts_cpu_and_lets_the_kernel_calibrate_the_counter() {
        let line = line(Accelerator::Kvm, false);
        assert!(line.contains("-accel kvm -cpu host,-svm,-vmx -smp"), "{line}");
        assert!(!line.contains("tsc_early_khz"), "{line}");
    }

    #[test]
    fn a_nested_host_keeps_virtualization() {
        for (accelerator, cpu) in [(Accelerator::Tcg, EMULATED_CPU), (Accelerator::Kvm, "host")] {
            let line = line(accelerator, true);
            assert!(line.contains(&format!("-cpu {cpu} -smp")), "{line}");
            assert!(line.contains(" mayfly.nested "), "{line}");
        }
    }

    #[test]
    fn no_option_has_a_network_or_a_host_directory() {
        let line = line(Accelerator::Tcg, false);
        for word in ["-net", "-nic", "virtfs", "fsdev", "-monitor", "-qmp"] {
            assert!(!line.contains(word), "{word} in {line}");
        }
    }
}
