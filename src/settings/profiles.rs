//! Profile files: read, merged field by field, checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::layer::{ProfileLayer, ProfilesFile};
use super::{imported, trusted};
use crate::model::{
    CommandDefaults, DebianRecipe, ImageRecipe, Isolation, Profile, ProfileSet, Refusal,
    RefusalKind, ValueRange, VmLimits,
};

/// The file at the top of the repository, so that the program is complete without it.
pub const BUILT_IN: &str = include_str!("../../profiles.toml");

/// What is kept beside images, and cannot be called like one.
const RESERVED: [&str; 2] = ["bin", "templates"];

/// How large a VM's own disk may be: ext4 refuses one larger than 16 TiB.
pub const DISK_MIB: ValueRange = ValueRange { min: 64, max: 1 << 24 };

/// Reads every layer there is. `artifacts` is where the images are, of which imported ones bring a
/// profile along; `extra` is the file named by `MAYFLY_PROFILES`, which must exist.
pub fn load(artifacts: &Path, extra: Option<&Path>) -> Result<ProfileSet> {
    let usual = [Some(Path::new(trusted::SYSTEM_DIRECTORY).to_owned()), trusted::user_directory()];
    let usual = usual.into_iter().flatten();
    let mut files: Vec<(PathBuf, bool)> =
        usual.map(|directory| (directory.join("profiles.toml"), false)).collect();
    files.extend(extra.map(|extra| (extra.to_owned(), true)));

    let mut texts = vec![("the built-in profiles.toml".to_owned(), BUILT_IN.to_owned())];
    for (path, required) in files {
        if let Some(text) = trusted::read(&path, required)? {
            texts.push((path.display().to_string(), text));
        }
    }
    let imported = ProfilesFile::imported(imported::read_all(artifacts)?);
    Ok(merge_with(imported, &texts)?)
}

/// Merges `(origin, text)` pairs, the last one winning, and checks the outcome.
pub fn merge(texts: &[(String, String)]) -> Result<ProfileSet, Refusal> {
    merge_with(ProfilesFile::default(), texts)
}

/// The same on top of what else there is.
fn merge_with(lowest: ProfilesFile, texts: &[(String, String)]) -> Result<ProfileSet, Refusal> {
    let mut merged = lowest;
    for (origin, text) in texts {
        merged = ProfilesFile::parse(text, origin)?.over(merged);
    }
    let limits = merged.limits;
    let missing =
        |what: &str| Refusal::new(RefusalKind::Usage, format!("no profile file sets {what}"));
    let limits = VmLimits {
        max_active_vms: limits.max_active_vms.ok_or_else(|| missing("limits.max_active_vms"))?,
        vcpu_count: limits.vcpu_count.ok_or_else(|| missing("limits.vcpu_count"))?,
        mem_mib: limits.mem_mib.ok_or_else(|| missing("limits.mem_mib"))?,
        ttl_seconds: limits.ttl_seconds.ok_or_else(|| missing("limits.ttl_seconds"))?,
        vmm_uid: limits.vmm_uid.ok_or_else(|| missing("limits.vmm_uid"))?,
        template_unused_seconds: limits
            .template_unused_seconds
            .ok_or_else(|| missing("limits.template_unused_seconds"))?,
        copy_out_mib: limits.copy_out_mib.ok_or_else(|| missing("limits.copy_out_mib"))?,
        copy_out_files: limits.copy_out_files.ok_or_else(|| missing("limits.copy_out_files"))?,
        copy_out_free_mib: limits
            .copy_out_free_mib
            .ok_or_else(|| missing("limits.copy_out_free_mib"))?,
    };
    // 0 is root; what is beyond 31 bits, some programs take for a negative number.
    let uids = ValueRange { min: 1, max: (1 << 31) - 1 };
    if !uids.contains(limits.vmm_uid.min)
        || !uids.contains(limits.vmm_uid.max)
        || limits.vmm_uid.min > limits.vmm_uid.max
    {
        let message = format!("limits.vmm_uid must lie between {} and {}", uids.min, uids.max);
        return Err(Refusal::new(RefusalKind::Usage, message));
    }
    let mut profiles = BTreeMap::new();
    for name in merged.profiles.keys() {
        let whole = inherit(name, &merged.profiles, 0)?;
        if whole.imported.is_some() {
            refuse_ingredients(name, &whole)?;
        }
        let whole = whole.over(merged.defaults.clone());
        profiles.insert(name.clone(), finish(name, whole, &limits)?);
    }
    Ok(ProfileSet { limits, profiles })
}

/// Follows `extends`, at most as many steps as there are profiles.
fn inherit(
    name: &str,
    all: &BTreeMap<String, ProfileLayer>,
    depth: usize,
) -> Result<ProfileLayer, Refusal> {
    let layer = all[name].clone();
    let Some(base) = layer.extends.clone() else { return Ok(layer) };
    if !all.contains_key(&base) {
        return Err(invalid(name, format!("it extends {base:?}, which is not a profile")));
    }
    if depth >= all.len() {
        return Err(invalid(name, "it extends itself".into()));
    }
    if all[&base].imported.is_some() {
        let why =
            format!("it extends {base:?}, whose image was imported and serves no other profile");
        return Err(invalid(name, why));
    }
    let below = inherit(&base, all, depth + 1)?;
    let mut packages = below.packages.clone().unwrap_or_default();
    packages.extend(layer.packages.clone().unwrap_or_default());
    Ok(ProfileLayer { packages: Some(packages), ..layer.over(below) })
}

fn invalid(profile: &str, why: String) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("profile {profile:?}: {why}"))
}

/// What is in an imported image was decided elsewhere.
fn refuse_ingredients(name: &str, layer: &ProfileLayer) -> Result<(), Refusal> {
    let said = [
        ("extends", layer.extends.is_some()),
        ("packages", layer.packages.is_some()),
        ("suite", layer.suite.is_some()),
        ("mirror", layer.mirror.is_some()),
        ("kernel", layer.kernel.is_some()),
        ("root_mib", layer.root_mib.is_some()),
        ("disk_mib", layer.disk_mib.is_some()),
    ];
    match said.iter().find(|(_, is_said)| *is_said) {
        Some((field, _)) => Err(invalid(
            name,
            format!("its image was imported, so no file can give it {field}; choose another name"),
        )),
        None => Ok(()),
    }
}

fn recipe(name: &str, layer: &ProfileLayer) -> Result<ImageRecipe, Refusal> {
    if let Some(import) = &layer.imported {
        return Ok(ImageRecipe::Imported(import.clone()));
    }
    let missing = |field: &str| invalid(name, format!("it has no {field}"));
    let mut packages = layer.packages.clone().unwrap_or_default();
    packages.sort();
    packages.dedup();
    Ok(ImageRecipe::Debian(DebianRecipe {
        suite: layer.suite.clone().ok_or_else(|| missing("suite"))?,
        mirror: layer.mirror.clone(),
        kernel: layer.kernel.clone().ok_or_else(|| missing("kernel"))?,
        packages,
        root_mib: layer.root_mib.ok_or_else(|| missing("root_mib"))?,
        disk_mib: layer.disk_mib.ok_or_else(|| missing("disk_mib"))?,
    }))
}

fn finish(name: &str, layer: ProfileLayer, limits: &VmLimits) -> Result<Profile, Refusal> {
    let missing = |field: &str| invalid(name, format!("it has no {field}"));
    let recipe = recipe(name, &layer)?;
    let profile = Profile {
        name: name.to_owned(),
        description: layer.description.unwrap_or_default(),
        recipe,
        vcpu_count: layer.vcpu_count.ok_or_else(|| missing("vcpu_count"))?,
        mem_mib: layer.mem_mib.ok_or_else(|| missing("mem_mib"))?,
        ttl_seconds: layer.ttl_seconds.ok_or_else(|| missing("ttl_seconds"))?,
        keep: layer.keep.unwrap_or(false),
        require: layer.require.unwrap_or(Isolation::None),
        nested: layer.nested.unwrap_or(false),
        command: CommandDefaults {
            entrypoint: layer.entrypoint.unwrap_or_default(),
            cmd: layer.cmd.unwrap_or_default(),
            env: layer.env.unwrap_or_default(),
            user: layer.user,
            workdir: layer.workdir,
        },
    };
    check(&profile, limits)?;
    Ok(profile)
}

/// Names become directories and arguments of other programs: they obey a strict grammar.
fn check(profile: &Profile, limits: &VmLimits) -> Result<(), Refusal> {
    let bad =
        |what: &str, text: &str| Err(invalid(&profile.name, format!("{text:?} is not {what}")));
    if RESERVED.contains(&profile.name.as_str()) {
        return Err(invalid(
            &profile.name,
            "the name is taken, for what is kept beside images".into(),
        ));
    }
    if !is_word(&profile.name, "-") || profile.name.len() > 63 {
        return bad("a profile name (lower-case letters, digits and hyphens)", &profile.name);
    }
    if let Some(problem) = profile.command.problem() {
        return Err(invalid(&profile.name, problem));
    }
    if let ImageRecipe::Debian(recipe) = &profile.recipe {
        check_recipe(&profile.name, recipe)?;
    }
    let within = [
        ("vcpu_count", u64::from(profile.vcpu_count), limits.vcpu_count),
        ("mem_mib", u64::from(profile.mem_mib), limits.mem_mib),
        ("ttl_seconds", profile.ttl_seconds, limits.ttl_seconds),
    ];
    check_bounds(&profile.name, &within)
}

fn check_recipe(name: &str, recipe: &DebianRecipe) -> Result<(), Refusal> {
    let bad = |what: &str, text: &str| Err(invalid(name, format!("{text:?} is not {what}")));
    if !is_word(&recipe.suite, "-") {
        return bad("a Debian suite", &recipe.suite);
    }
    let kernel = &recipe.kernel;
    if !kernel.strip_prefix("linux-image-").is_some_and(|flavour| is_word(flavour, "+-.")) {
        return bad("a kernel package (linux-image-...)", kernel);
    }
    if let Some(package) = recipe.packages.iter().find(|package| !is_word(package, "+-.:")) {
        return bad("a package name", package);
    }
    if let Some(mirror) = &recipe.mirror {
        let scheme = ["http://", "https://", "file:///"].iter().any(|s| mirror.starts_with(s));
        if !scheme || !mirror.bytes().all(|b| b.is_ascii_graphic()) {
            return bad("a mirror's address", mirror);
        }
    }
    let within = [
        // A file system smaller than this holds no Debian; one larger than 16 TiB ext4 refuses.
        ("root_mib", u64::from(recipe.root_mib), ValueRange { min: 512, max: 1 << 24 }),
        ("disk_mib", u64::from(recipe.disk_mib), DISK_MIB),
    ];
    check_bounds(name, &within)
}

fn check_bounds(name: &str, within: &[(&str, u64, ValueRange)]) -> Result<(), Refusal> {
    match within.iter().find(|(_, value, bounds)| !bounds.contains(*value)) {
        Some((field, value, bounds)) => {
            let range = format!("between {} and {}", bounds.min, bounds.max);
            Err(invalid(name, format!("{field} is {value}, but must be {range}")))
        }
        None => Ok(()),
    }
}

/// Whether an image of this name can be imported: nothing else may be meant by it.
pub fn is_profile_name(name: &str) -> bool {
    is_word(name, "-") && name.len() <= 63 && !RESERVED.contains(&name)
}

/// Whether `text` starts with a lower-case letter or digit and holds only those and `others`.
fn is_word(text: &str, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.chars().all(|c| plain(c) || others.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<ProfileSet, Refusal> {
        merge(&[("built-in".into(), BUILT_IN.into()), ("extra.toml".into(), text.into())])
    }

    #[test]
    fn the_built_in_file_is_the_references() {
        let built_in = with("").unwrap();
        let names: Vec<&str> = built_in.profiles.keys().map(String::as_str).collect();
        assert_eq!(names, ["debian-base", "debian-build", "debian-git", "debian-kvm"]);
        let limits = built_in.limits;
        assert_eq!(limits.max_active_vms, 4);
        assert_eq!(limits.vcpu_count, ValueRange { min: 1, max: 8 });
        assert_eq!(limits.mem_mib, ValueRange { min: 256, max: 32768 });
        assert_eq!(limits.ttl_seconds, ValueRange { min: 60, max: 3600 });
        let build = &built_in.profiles["debian-build"].recipe.debian().unwrap().packages;
        for package in ["git", "gcc", "make", "cmake", "python3", "bash"] {
            assert!(build.iter().any(|name| name == package), "{package}");
        }
    }

    #[test]
    fn a_layer_changes_one_field_and_leaves_the_rest() {
        let merged = with("[profiles.debian-base]\nmem_mib = 512\n").unwrap();
        let base = &merged.profiles["debian-base"];
        assert_eq!((base.mem_mib, base.vcpu_count), (512, 1));
        assert_eq!(base.description, "Minimal Debian for shell and core Unix tooling.");
    }

    #[test]
    fn variables_are_merged_name_by_name() {
        let merged = with(
            "[profiles.a]\nextends = \"debian-base\"\nenv = { A = \"1\", B = \"1\" }\n\
             [profiles.b]\nextends = \"a\"\nenv = { B = \"2\" }\n\
             [profiles.c]\nextends = \"a\"\nkeep = true\n",
        )
        .unwrap();
        let env = |name: &str| merged.profiles[name].command.env.clone();
        let variables = |values: [&str; 2]| {
            ["A", "B"].into_iter().zip(values).map(|(a, b)| (a.into(), b.into())).collect()
        };
        assert_eq!(env("b"), variables(["1", "2"]));
        // Who says nothing of them, leaves them as they are.
        assert_eq!(env("c"), variables(["1", "1"]));
    }

    #[test]
    fn a_profile_of_ones_own_starts_from_another() {
        let merged =
            with("[profiles.mine]\nextends = \"debian-git\"\npackages = [\"jq\"]\nkeep = true\n")
                .unwrap();
        let mine = &merged.profiles["mine"];
        let packages = &mine.recipe.debian().unwrap().packages;
        assert!(mine.keep && packages.contains(&"jq".to_owned()));
        assert!(packages.contains(&"git".to_owned()));
    }

    #[test]
    fn the_kernel_is_the_cloud_one_but_for_hosts_of_vms() {
        let merged = with("[profiles.mine]\nextends = \"debian-kvm\"\n").unwrap();
        let kernel = |name: &str| merged.profiles[name].recipe.kernel();
        for name in ["debian-base", "debian-git", "debian-build"] {
            assert_eq!(kernel(name), "linux-image-cloud-amd64");
        }
        assert_eq!(kernel("debian-kvm"), "linux-image-amd64");
        assert_eq!(kernel("mine"), "linux-image-amd64");
    }

    /// Images that were built before profiles named kernels must still be what their profiles say.
    #[test]
    fn a_recipe_without_a_kernel_equals_one_with_the_default() {
        let recipe = &with("").unwrap().profiles["debian-base"].recipe;
        let mut written = serde_json::to_value(recipe).unwrap();
        assert!(written.as_object_mut().unwrap().remove("kernel").is_some());
        assert_eq!(serde_json::from_value::<ImageRecipe>(written).unwrap(), *recipe);
    }

    #[test]
    fn mistakes_name_the_file_and_the_key() {
        let unknown = with("[profiles.debian-base]\nmemory = 5\n").unwrap_err();
        let message = "extra.toml:2: unknown key \"memory\" in [profiles.debian-base]";
        assert_eq!(unknown.message, message);
        for (text, word) in [
            ("[profiles.debian-base]\nmem_mib = 1\n", "mem_mib"),
            ("[profiles.debian-base]\npackages = [\"--hook=x\"]\n", "--hook=x"),
            ("[profiles.debian-base]\nsuite = \"-x\"\n", "suite"),
            ("[profiles.debian-base]\nkernel = \"bash\"\n", "linux-image-"),
            ("[profiles.debian-base]\nkernel = \"linux-image-\"\n", "kernel package"),
            ("[profiles.debian-base]\nkernel = \"linux-image-/x\"\n", "linux-image-/x"),
            ("[profiles.debian-base]\nmirror = \"deb http://x\"\n", "mirror"),
            ("[profiles.\"../up\"]\npackages = []\n", "../up"),
            ("[profiles.bin]\nextends = \"debian-base\"\n", "bin"),
            ("[limits]\nvmm_uid = { min = 0, max = 9 }\n", "vmm_uid"),
            ("[limits]\nvmm_uid = { min = 9, max = 8 }\n", "vmm_uid"),
            ("[profiles.a]\nextends = \"b\"\n[profiles.b]\nextends = \"a\"\n", "itself"),
            ("[profiles.a]\nextends = \"nobody\"\n", "nobody"),
        ] {
            let refusal = with(text).unwrap_err();
            assert!(refusal.message.contains(word), "{text}: {refusal}");
            assert_eq!(refusal.kind, RefusalKind::Usage);
        }
    }
}
