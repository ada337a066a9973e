//! Profiles: named kinds of VM, and the limits of all VMs.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::command::CommandDefaults;
use super::image_reference::ImageReference;
use super::key_places::KeyPlaces;
use super::network::{NetworkLimit, NetworkSettings};
use super::platform::{Isolation, display_as_value};
use super::profile_name::{ProfileName, is_word};

/// The file in an imported or pulled image's directory that holds its profile.
pub const IMPORTED_PROFILE: &str = "profile.toml";

/// The profile whose image has the kernel of images that have none, if the user chooses no other.
pub const KERNEL_OF: &str = "debian-base";

/// A complete profile, merged from all files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub name: ProfileName,
    pub description: String,
    /// What its image is made of.
    pub recipe: ImageRecipe,
    /// Whether a user's file says which image is pulled for it.
    pub names_image: bool,
    pub vcpu_count: u32,
    /// MiB of memory.
    pub mem_mib: u32,
    pub ttl_seconds: u64,
    /// Keep a VM of this profile after `exec`.
    pub keep: bool,
    /// Refuse to create a VM with less isolation than this.
    pub require: Isolation,
    /// Give the guest hardware virtualization: a working `/dev/kvm`.
    pub nested: bool,
    /// What its VMs reach, and what reaches them.
    pub network: NetworkSettings,
    /// Defaults of its commands.
    pub command: CommandDefaults,
}

/// What an image is made of. Images of equal recipes are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRecipe {
    /// Imported, so that it cannot be built again.
    Imported(ImportRecipe),
    /// Pulled from a registry.
    Pulled(PullRecipe),
    #[serde(untagged)]
    Debian(DebianRecipe),
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRecipe {
    /// The file or directory it was read from; `-` for standard input.
    pub source: String,
    pub form: RootfsFormat,
    /// What the archive calls the image, such as `localhost/my-app:latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The digest of the image's manifest, or of its configuration if there is no manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The package of its kernel.
    pub kernel: String,
}

/// What is pulled from a registry. The reference may mean another image later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRecipe {
    pub reference: ImageReference,
    /// The profile whose image has the kernel.
    pub kernel_of: String,
    /// MiB of each VM's own disk; `None` for that of the profile with the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u32>,
}

/// The forms in which a root file system can be imported, as values of `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RootfsFormat {
    /// A directory with a root file system.
    Dir,
    /// A tar archive of a root file system.
    Tar,
    /// An OCI archive or directory.
    Oci,
    /// An archive written by 'docker save'.
    Docker,
}

display_as_value!(RootfsFormat);

impl PullRecipe {
    /// As [`DebianRecipe::problem`].
    pub fn problem(&self) -> Option<(&'static str, String)> {
        self.disk_mib.and_then(|mib| DISK_MIB.problem_of("disk_mib", mib.into()))
    }
}

impl ImageRecipe {
    /// The recipe of an image of packages.
    pub fn debian(&self) -> Option<&DebianRecipe> {
        match self {
            ImageRecipe::Debian(recipe) => Some(recipe),
            ImageRecipe::Imported(_) | ImageRecipe::Pulled(_) => None,
        }
    }

    /// The recipe of an image from a registry.
    pub fn pulled(&self) -> Option<&PullRecipe> {
        match self {
            ImageRecipe::Pulled(recipe) => Some(recipe),
            ImageRecipe::Imported(_) | ImageRecipe::Debian(_) => None,
        }
    }

    /// The package of the kernel that its VMs boot; `None` if the recipe only names another profile.
    pub fn kernel(&self) -> Option<&str> {
        match self {
            ImageRecipe::Debian(recipe) => Some(&recipe.kernel),
            ImageRecipe::Imported(import) => Some(&import.kernel),
            ImageRecipe::Pulled(_) => None,
        }
    }
}

/// How an image is made of Debian packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianRecipe {
    /// The Debian suite, such as `bookworm`.
    pub suite: String,
    /// Where packages come from; `None` is mmdebstrap's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// The package of the kernel, such as `linux-image-cloud-amd64`.
    #[serde(default = "first_kernel")]
    pub kernel: String,
    /// Packages beyond the essential ones and the kernel.
    pub packages: Vec<String>,
    /// MiB of the read-only root file system, as the guest sees it; the file is sparse.
    pub root_mib: u32,
    /// MiB of each VM's writable disk; the file is sparse.
    pub disk_mib: u32,
}

/// How large a VM's own disk may be: ext4 refuses one larger than 16 TiB.
pub const DISK_MIB: ValueRange = ValueRange { min: 64, max: 1 << 24 };

/// How large a root file system may be: Debian does not fit into less.
const ROOT_MIB: ValueRange = ValueRange { min: 512, max: 1 << 24 };

/// What the names of Debian's kernel packages begin with.
const KERNEL_PREFIX: &str = "linux-image-";

impl DebianRecipe {
    /// The key that is wrong, and why. The words of a recipe become arguments of other programs, and people share
    /// profile files, so every word must obey a strict grammar.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let is_not = |key, what: &str, text: &str| Some((key, format!("{text:?} is not {what}")));
        if !is_word(&self.suite, "-") {
            return is_not("suite", "a Debian suite", &self.suite);
        }
        if !self.kernel.strip_prefix(KERNEL_PREFIX).is_some_and(is_package) {
            return is_not("kernel", "a kernel package (linux-image-...)", &self.kernel);
        }
        if let Some(package) = self.packages.iter().find(|package| !is_package(package)) {
            return is_not("packages", "a package name", package);
        }
        if let Some(mirror) = self.mirror.as_ref().filter(|mirror| !is_mirror(mirror)) {
            return is_not("mirror", "a mirror's address", mirror);
        }
        let root = ROOT_MIB.problem_of("root_mib", self.root_mib.into());
        root.or_else(|| DISK_MIB.problem_of("disk_mib", self.disk_mib.into()))
    }
}

/// Whether a Debian package can have that name (Debian Policy 5.6.1).
fn is_package(name: &str) -> bool {
    is_word(name, "+-.")
}

/// Whether `mirror` is an address that packages can come from.
pub fn is_mirror(mirror: &str) -> bool {
    ["http://", "https://", "file:/", "copy:/"].iter().any(|scheme| mirror.starts_with(scheme))
        && mirror.chars().all(|c| c.is_ascii_graphic() && !"'\"\\`$;|&<>()[]{}*?!#".contains(c))
}

/// The kernel of images whose `image.json` names none. Changing it would rebuild them all.
fn first_kernel() -> String {
    "linux-image-cloud-amd64".into()
}

/// The bounds a request must respect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLimits {
    /// How many VMs a state directory may have.
    pub max_active_vms: u32,
    pub vcpu_count: ValueRange,
    pub mem_mib: ValueRange,
    pub ttl_seconds: ValueRange,
    /// The host users that root's VMMs run as, one each.
    pub vmm_uid: ValueRange,
    /// The most network that VMs may have.
    pub network: NetworkLimit,
    /// How long a template may be unused before `reap` deletes it.
    pub template_unused_seconds: u64,
    /// How long a VM waits in the pool.
    pub pool_ttl_seconds: u64,
    /// How many MiB one copy may bring out of a VM.
    pub copy_out_mib: u64,
    /// How many files and directories one copy may bring out of a VM.
    pub copy_out_files: u64,
    /// How many MiB of the destination's disk such a copy leaves free.
    pub copy_out_free_mib: u64,
}

/// An inclusive range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueRange {
    pub min: u64,
    pub max: u64,
}

impl ValueRange {
    pub fn contains(self, value: u64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// What is wrong with the `value` of `field`, if it is outside; `shown` writes it as a user does.
    pub fn problem(self, field: &str, value: u64, shown: fn(u64) -> String) -> Option<String> {
        let is_inside = self.contains(value);
        (!is_inside).then(|| {
            let [min, max, value] = [self.min, self.max, value].map(shown);
            format!("{field} must be between {min} and {max}, not {value}")
        })
    }

    /// The key of a file that is outside, and why.
    pub fn problem_of(self, key: &'static str, value: u64) -> Option<(&'static str, String)> {
        Some((key, self.problem(key, value, |value| value.to_string())?))
    }
}

/// All profiles and the limits, merged from all files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSet {
    pub limits: VmLimits,
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// Where the files set them.
    pub places: KeyPlaces,
}

#[cfg(test)]
impl Profile {
    /// A profile of packages.
    pub fn sample(name: ProfileName, suite: &str) -> Profile {
        Profile {
            name,
            description: String::new(),
            recipe: ImageRecipe::Debian(DebianRecipe {
                suite: suite.into(),
                mirror: None,
                kernel: first_kernel(),
                packages: vec!["bash".into(), "libstdc++6".into()],
                root_mib: 512,
                disk_mib: 1024,
            }),
            names_image: false,
            vcpu_count: 1,
            mem_mib: 256,
            ttl_seconds: 60,
            keep: false,
            require: Isolation::None,
            nested: false,
            network: NetworkSettings::default(),
            command: CommandDefaults::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_recipe_smuggles_an_option_in() {
        let profile = Profile::sample("p".parse().unwrap(), "bookworm");
        let good = profile.recipe.debian().unwrap();
        let problem = |change: &dyn Fn(&mut DebianRecipe)| {
            let mut recipe = good.clone();
            change(&mut recipe);
            recipe.problem()
        };
        assert_eq!(good.problem(), None);
        for mirror in ["file:/srv/debian", "http://mirror.example/debian"] {
            assert_eq!(problem(&|r| r.mirror = Some(mirror.into())), None);
        }
        for kernel in ["linux-image-amd64", "linux-image-6.1.0-56-rt-amd64"] {
            assert_eq!(problem(&|r| r.kernel = kernel.into()), None);
        }
        for bad in ["", "-x", "a b", "a,b", "a\n", "A", "--hook=x", "../x", "a;b", "a:b", "é"] {
            assert!(problem(&|r| r.suite = bad.into()).is_some(), "{bad:?}");
            assert!(problem(&|r| r.kernel = bad.into()).is_some(), "{bad:?}");
            assert!(problem(&|r| r.kernel = format!("linux-image-{bad}")).is_some(), "{bad:?}");
            assert!(problem(&|r| r.packages = vec![bad.into()]).is_some(), "{bad:?}");
        }
        for bad in [
            "",
            "--x",
            "-",
            "deb http://x y main",
            "http://a b",
            "http://a\nb",
            "http://$(x)",
            "/x",
        ] {
            assert!(problem(&|r| r.mirror = Some(bad.into())).is_some(), "{bad:?}");
        }
        let (key, why) = problem(&|r| r.root_mib = 511).unwrap();
        assert_eq!(
            (key, &*why),
            ("root_mib", "root_mib must be between 512 and 16777216, not 511")
        );
        assert_eq!(problem(&|r| r.disk_mib = 63).unwrap().0, "disk_mib");
    }
}
