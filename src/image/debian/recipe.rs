//! Options of mmdebstrap for a recipe.

use crate::model::DebianRecipe;

/// Loads modules in the guest, and lists them while an image is built.
const KMOD: &str = "kmod";

/// Without most of the documentation (licences stay), and without a sync after every file. Guests keep these
/// options.
const DPKG_OPTIONS: [&str; 10] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/help/*",
    "path-exclude=/usr/share/bug/*",
];

const APT_OPTIONS: [&str; 4] = [
    "Acquire::Languages \"none\"",
    "Acquire::Retries \"3\"",
    "Acquire::http::Timeout \"30\"",
    // apt's own user cannot enter mayfly's private directories, and the sandbox confines apt.
    "APT::Sandbox::User \"root\"",
];

/// The options of mmdebstrap, before suite, target and mirror.
pub fn mmdebstrap_options(recipe: &DebianRecipe) -> Vec<String> {
    let mut packages = vec![KMOD];
    for package in &recipe.packages {
        if !packages.contains(&package.as_str()) {
            packages.push(package);
        }
    }
    let mut options = vec![
        // It is root of the sandbox.
        "--mode=root".to_owned(),
        "--variant=essential".to_owned(),
        "--format=directory".to_owned(),
        // The guest's /dev comes from the kernel, and a sandbox cannot mount /sys.
        "--skip=output/dev,output/mknod,chroot/mount/sys".to_owned(),
        format!("--include={}", packages.join(",")),
    ];
    options.extend(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
    options.extend(APT_OPTIONS.iter().map(|option| format!("--aptopt={option}")));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> DebianRecipe {
        DebianRecipe {
            suite: "bookworm".into(),
            mirror: None,
            kernel: "linux-image-cloud-amd64".into(),
            packages: vec!["bash".into(), "kmod".into(), "libstdc++6".into()],
            root_mib: 512,
            disk_mib: 1024,
        }
    }

    #[test]
    fn options_name_each_package_once() {
        let options = mmdebstrap_options(&recipe());
        assert!(options.contains(&"--include=kmod,bash,libstdc++6".to_owned()));
        assert!(options.iter().all(|option| option.starts_with("--")));
    }
}
