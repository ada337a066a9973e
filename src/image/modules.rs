//! The kernel modules in the initrd, and their load order.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};

/// The modules that the agent needs before it has a root file system: the two virtio transports, disks,
/// console ports and vsock for its channel, entropy, network, ext4 and overlayfs for `/`. Some are built into some
/// kernels: ext4 into Debian's cloud kernel, vmgenid into its full one.
///
/// In load order, as far as dependencies allow.
pub const NEEDED: [&str; 16] = [
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    // ext4 requests it by an alias when it mounts: a dependency that is not in modules.dep.
    "crc32c_generic",
    "ext4",
    "overlay",
    "vmw_vsock_virtio_transport",
    "virtio_rng",
    // A network card, and the interface that replaces one where the VMM has none.
    "virtio_net",
    "tun",
    // Tells the guest that it was restored from a template.
    "vmgenid",
];

/// Modules that a kernel may lack. If crc32c is a library function, it is a dependency of ext4.
const OPTIONAL: [&str; 5] = ["vmgenid", "virtio_rng", "crc32c_generic", "virtio_net", "tun"];

/// The files of `wanted` and of their dependencies, dependencies first. `dep` is the text of `modules.dep`,
/// one `file: dependency…` a line; `builtin` that of `modules.builtin`, the modules in the kernel itself.
///
/// # Errors
/// A module is in neither.
pub fn load_order(dep: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let mut dependencies = HashMap::new();
    let mut files = HashMap::new();
    for line in dep.lines() {
        let Some((file, needs)) = line.split_once(':') else { continue };
        files.insert(name(file), file);
        dependencies.insert(file, needs.split_whitespace().collect::<Vec<_>>());
    }
    let built_in: HashSet<String> = builtin.lines().map(|line| name(line.trim())).collect();

    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for &module in wanted {
        match files.get(&name(module)) {
            Some(file) => visit(file, &dependencies, &mut seen, &mut order)?,
            None if built_in.contains(&name(module)) || OPTIONAL.contains(&module) => {}
            None => bail!("the kernel package has no module {module}"),
        }
    }
    Ok(order)
}

fn visit<'a>(
    file: &'a str,
    dependencies: &HashMap<&'a str, Vec<&'a str>>,
    seen: &mut HashSet<&'a str>,
    order: &mut Vec<String>,
) -> Result<()> {
    if !seen.insert(file) {
        return Ok(());
    }
    let Some(needs) = dependencies.get(file) else {
        bail!("modules.dep names {file} as a dependency but has no line for it");
    };
    // depmod lists dependencies in reverse load order.
    for need in needs.iter().rev() {
        visit(need, dependencies, seen, order)?;
    }
    order.push(file.to_owned());
    Ok(())
}

/// A module's name: its file's without directory and suffix, and with `_` for `-`, as in the kernel.
fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split_once(".ko").map_or(base, |(stem, _)| stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/char/hw_random/rng-core.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/rng-core.ko:
";

    fn names(order: &[String]) -> Vec<String> {
        order.iter().map(|file| name(file)).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let order = load_order(DEP, "", &["virtio_pci", "virtio_rng"]).unwrap();
        assert_eq!(
            names(&order),
            [
                "virtio_ring",
                "virtio",
                "virtio_pci_modern_dev",
                "virtio_pci",
                "rng_core",
                "virtio_rng"
            ]
        );
        assert_eq!(order[5], "kernel/drivers/char/hw_random/virtio-rng.ko");
    }

    #[test]
    fn built_in_modules_need_no_file_and_missing_ones_are_named() {
        let builtin = "kernel/fs/overlayfs/overlay.ko\n";
        assert!(load_order(DEP, builtin, &["overlay"]).unwrap().is_empty());
        assert!(load_order(DEP, "", &["vmgenid"]).unwrap().is_empty());
        let error = load_order(DEP, builtin, &["virtio_blk"]).unwrap_err();
        assert!(error.to_string().contains("no module virtio_blk"));
    }

    /// The lines of Debian's full kernel 6.1 about what the agent needs.
    const FULL: &str = "\
kernel/crypto/crc32c_generic.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_mmio.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_legacy_dev.ko kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci_legacy_dev.ko:
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_ring.ko:
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/fs/overlayfs/overlay.ko:
kernel/lib/crc16.ko:
kernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko: kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko kernel/net/vmw_vsock/vsock.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko: kernel/net/vmw_vsock/vsock.ko
kernel/net/vmw_vsock/vsock.ko:
";

    #[test]
    fn ext4_of_the_full_kernel_comes_with_its_dependencies() {
        let builtin = "kernel/drivers/virt/vmgenid.ko\n";
        let order = names(&load_order(FULL, builtin, &NEEDED).unwrap());
        let at = |name: &str| order.iter().position(|other| other == name).unwrap();
        for (first, then) in [
            ("virtio", "virtio_blk"),
            ("crc32c_generic", "ext4"),
            ("crc32c_generic", "jbd2"),
            ("jbd2", "ext4"),
            ("mbcache", "ext4"),
            ("crc16", "ext4"),
            ("vsock", "vmw_vsock_virtio_transport"),
        ] {
            assert!(at(first) < at(then), "{first} after {then}: {order:?}");
        }
        assert!(order.contains(&"overlay".to_owned()));
    }

    #[test]
    fn a_list_with_loops_or_gaps_ends() {
        let looped = "a.ko: b.ko\nb.ko: a.ko\n";
        assert_eq!(load_order(looped, "", &["a"]).unwrap(), ["b.ko", "a.ko"]);
        assert!(load_order("a.ko: gone.ko\n", "", &["a"]).is_err());
        assert!(load_order("no colon\n\n", "", &["a"]).is_err());
    }
}
