//! Profile files: read, merged field by field, checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::directories::home;
use super::layer::{ProfileLayer, ProfilesFile};
use super::network_rules::both;
use super::{imported, trusted};
use crate::model::{
    ImageRecipe, KeyPlaces, NetworkLimit, NetworkSettings, Profile, ProfileName, ProfileSet,
    Refusal, RefusalKind, ValueRange, VmLimits,
};

/// The file at the top of the repository.
pub const BUILT_IN: &str = include_str!("../../profiles.toml");

/// The file that a user writes profiles and limits to, as people write it.
pub(super) fn own_file() -> String {
    let directory = trusted::user_directory();
    let directory = directory.unwrap_or_else(|| trusted::SYSTEM_DIRECTORY.into());
    let path = directory.join("profiles.toml");
    match home().and_then(|home| Some(path.strip_prefix(home).ok()?.to_owned())) {
        Some(below) => format!("~/{}", below.display()),
        None => path.display().to_string(),
    }
}

/// Reads and merges all files. `artifacts` holds the images, and imported ones have a profile; `extra` is the
/// file that `MAYFLY_PROFILES` names, which must exist, and how the user named it.
///
/// # Errors
/// Those of [`merge`], and `Host` if another user could have written a file.
pub fn load(artifacts: &Path, extra: Option<(&Path, &str)>) -> Result<ProfileSet> {
    let usual = [Some(Path::new(trusted::SYSTEM_DIRECTORY).to_owned()), trusted::user_directory()];
    let usual = usual.into_iter().flatten();
    let mut files: Vec<(PathBuf, bool)> =
        usual.map(|directory| (directory.join("profiles.toml"), false)).collect();
    files.extend(extra.map(|(extra, _)| (extra.to_owned(), true)));

    let mut texts = vec![("the built-in profiles.toml".to_owned(), BUILT_IN.to_owned())];
    for (path, required) in files {
        let mut read = trusted::read(&path, required);
        if let (true, Some((_, source))) = (required, extra) {
            read = read.with_context(|| source.to_owned());
        }
        if let Some(text) = read? {
            texts.push((path.display().to_string(), text));
        }
    }
    Ok(merge_with(imported::read_all(artifacts)?, &texts)?)
}

/// Merges `(origin, text)` pairs, later ones taking precedence, and checks the result.
///
/// # Errors
/// `Usage`, with the file and line, or with the profile and field.
pub fn merge(texts: &[(String, String)]) -> Result<ProfileSet, Refusal> {
    merge_with(BTreeMap::new(), texts)
}

/// Merges `(origin, text)` pairs on top of the profiles of images, and checks the result.
fn merge_with(
    of_images: BTreeMap<ProfileName, ProfileLayer>,
    texts: &[(String, String)],
) -> Result<ProfileSet, Refusal> {
    let (mut merged, mut places) = (ProfilesFile::default(), KeyPlaces::default());
    for (origin, text) in texts {
        // What is built in cannot be changed where it is.
        let places = if text == BUILT_IN { &mut KeyPlaces::default() } else { &mut places };
        merged = ProfilesFile::parse(text, origin, places)?.over(merged);
    }
    if merged.defaults.image.is_some() {
        let place = places.get("defaults.image").unwrap_or("[defaults]");
        let message = format!("{place}: image in [defaults] would be that of every profile");
        return Err(Refusal::usage(message).hint("name it in the profiles that it is for"));
    }
    let of_images = merged.fitting(of_images);
    let merged = merged.over(of_images);
    let refuse = |why: String| Refusal::new(RefusalKind::Usage, why);
    let missing = |key: &str| refuse(format!("no profile file sets limits.{key}"));
    let layer = merged.limits;
    let limits = VmLimits {
        max_active_vms: layer.max_active_vms.ok_or_else(|| missing("max_active_vms"))?,
        vcpu_count: layer.vcpu_count.ok_or_else(|| missing("vcpu_count"))?,
        mem_mib: layer.mem_mib.ok_or_else(|| missing("mem_mib"))?,
        ttl_seconds: layer.ttl_seconds.ok_or_else(|| missing("ttl_seconds"))?,
        vmm_uid: layer.vmm_uid.ok_or_else(|| missing("vmm_uid"))?,
        network: layer.network.ok_or_else(|| missing("network"))?,
        template_unused_seconds: layer
            .template_unused_seconds
            .ok_or_else(|| missing("template_unused_seconds"))?,
        pool_ttl_seconds: layer.pool_ttl_seconds.ok_or_else(|| missing("pool_ttl_seconds"))?,
        copy_out_mib: layer.copy_out_mib.ok_or_else(|| missing("copy_out_mib"))?,
        copy_out_files: layer.copy_out_files.ok_or_else(|| missing("copy_out_files"))?,
        copy_out_free_mib: layer.copy_out_free_mib.ok_or_else(|| missing("copy_out_free_mib"))?,
    };
    // 0 is root, and some programs take what is beyond 31 bits for a negative number.
    let uids = ValueRange { min: 1, max: (1 << 31) - 1 };
    let ValueRange { min, max } = limits.vmm_uid;
    let problem = uids.problem_of("limits.vmm_uid.min", min);
    let uids = ValueRange { min, ..uids };
    if let Some((_, problem)) = problem.or_else(|| uids.problem_of("limits.vmm_uid.max", max)) {
        let place = places.get("limits.vmm_uid");
        return Err(refuse(place.map_or(problem.clone(), |place| format!("{place}: {problem}"))));
    }
    let merged = MergedFiles { profiles: merged.profiles, defaults: merged.defaults, places };
    let names = merged.profiles.keys();
    let complete = |name: &ProfileName| Ok((name.clone(), merged.profile(name, &limits)?));
    let profiles = names.map(complete).collect::<Result<_, Refusal>>()?;
    Ok(ProfileSet { limits, profiles, places: merged.places })
}

/// What all files say about profiles.
struct MergedFiles {
    profiles: BTreeMap<ProfileName, ProfileLayer>,
    defaults: ProfileLayer,
    places: KeyPlaces,
}

impl MergedFiles {
    fn profile(&self, name: &ProfileName, limits: &VmLimits) -> Result<Profile, Refusal> {
        let whole = self.inherit(name.as_str(), 0)?;
        let profile = whole.complete(name, &self.defaults);
        let profile = profile.map_err(|(key, why)| self.invalid(name.as_str(), key, why))?;
        match problem(&profile, limits) {
            Some((key, why)) => Err(self.invalid(name.as_str(), key, why)),
            None => Ok(profile),
        }
    }

    /// Follows `extends`, at most as many times as there are profiles.
    fn inherit(&self, name: &str, depth: usize) -> Result<ProfileLayer, Refusal> {
        let all = &self.profiles;
        let layer = all[name].clone();
        let Some(base) = layer.extends.clone() else { return Ok(layer) };
        let invalid = |why| Err(self.invalid(name, "extends", why));
        if !all.contains_key(base.as_str()) {
            return invalid(format!("it extends {base:?}, which is not a profile"));
        }
        if depth >= all.len() {
            return invalid("it extends itself".into());
        }
        let below = &all[base.as_str()];
        if below.origin.is_some() && below.image.is_none() {
            return invalid(format!(
                "it extends {base:?}, whose image was imported or pulled, so it cannot be extended"
            ));
        }
        let below = self.inherit(&base, depth + 1)?;
        let packages = both(below.packages.as_ref(), layer.packages.as_ref());
        let allow = both(below.allow.as_ref(), layer.allow.as_ref());
        let publish = both(below.publish.as_ref(), layer.publish.as_ref());
        Ok(ProfileLayer { packages, allow, publish, ..layer.over(below) })
    }

    /// The refusal of a profile, with the place of the key that is wrong.
    fn invalid(&self, profile: &str, key: &str, why: String) -> Refusal {
        let message = format!("profile {profile:?}: {why}");
        let place =
            self.place(profile, key).or_else(|| self.places.get(&format!("profiles.{profile}")));
        Refusal::usage(place.map_or(message.clone(), |place| format!("{place}: {message}")))
    }

    /// Where a profile, or one that it extends, or the defaults set a key.
    fn place(&self, profile: &str, key: &str) -> Option<&str> {
        let bases = std::iter::successors(Some(profile), |name| {
            self.profiles.get(*name)?.extends.as_deref()
        });
        let keys = bases.take(self.profiles.len()).map(|name| format!("profiles.{name}.{key}"));
        let mut keys = keys.chain([format!("defaults.{key}")]);
        keys.find_map(|key| self.places.get(&key))
    }
}

/// The key of a profile that is wrong, and why.
fn problem(profile: &Profile, limits: &VmLimits) -> Option<(&'static str, String)> {
    let recipe = || match &profile.recipe {
        ImageRecipe::Debian(recipe) => recipe.problem(),
        ImageRecipe::Pulled(recipe) => recipe.problem(),
        ImageRecipe::Imported(_) => None,
    };
    let vcpus = || limits.vcpu_count.problem_of("vcpu_count", profile.vcpu_count.into());
    let mem = || limits.mem_mib.problem_of("mem_mib", profile.mem_mib.into());
    let ttl = || limits.ttl_seconds.problem_of("ttl_seconds", profile.ttl_seconds);
    let problem = profile.command.problem().or_else(recipe).or_else(vcpus).or_else(mem);
    problem.or_else(ttl).or_else(|| network_problem(&profile.network, limits.network))
}

/// The key of a profile that asks for more network than VMs may have, and why.
fn network_problem(
    network: &NetworkSettings,
    limit: NetworkLimit,
) -> Option<(&'static str, String)> {
    let key = match network.needs() {
        needed if needed <= limit => return None,
        NetworkLimit::Egress => "network",
        _ if network.allow.is_empty() => "publish",
        _ => "allow",
    };
    Some((key, format!("{key} is more than limits.network permits, which is {limit}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NetworkMode;

    fn with(text: &str) -> Result<ProfileSet, Refusal> {
        merge(&[("built-in".into(), BUILT_IN.into()), ("extra.toml".into(), text.into())])
    }

    #[test]
    fn the_built_in_file_has_the_documented_profiles_and_limits() {
        let built_in = with("").unwrap();
        let names: Vec<&str> = built_in.profiles.keys().map(ProfileName::as_str).collect();
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
        // A profile without `env` keeps that of its base.
        assert_eq!(env("c"), variables(["1", "1"]));
    }

    #[test]
    fn a_new_profile_is_based_on_another() {
        let merged =
            with("[profiles.mine]\nextends = \"debian-git\"\npackages = [\"jq\"]\nkeep = true\n")
                .unwrap();
        let mine = &merged.profiles["mine"];
        let packages = &mine.recipe.debian().unwrap().packages;
        assert!(mine.keep && packages.contains(&"jq".to_owned()));
        assert!(packages.contains(&"git".to_owned()));
    }

    #[test]
    fn a_profile_is_a_container_image_with_limits() {
        let merged = with(
            "[profiles.a]\nimage = \"alpine:3.19\"\nmem_mib = 512\ndisk_mib = 64\n\
             [profiles.b]\nextends = \"a\"\nmem_mib = 300\n",
        )
        .unwrap();
        for (name, mem) in [("a", 512), ("b", 300)] {
            let recipe = merged.profiles[name].recipe.pulled().unwrap();
            assert_eq!(recipe.reference.to_string(), "docker.io/library/alpine:3.19");
            assert_eq!((&*recipe.kernel_of, recipe.disk_mib), ("debian-base", Some(64)));
            assert_eq!(merged.profiles[name].mem_mib, mem);
        }
        for (keys, problem) in [
            (
                "packages = [\"jq\"]",
                "3: profile \"a\": 'image' and \"packages\" exclude each other",
            ),
            ("kernel = \"linux-image-amd64\"", "3: profile \"a\": 'image' and \"kernel\" "),
            ("disk_mib = 1", "3: profile \"a\": disk_mib must be between 64 and "),
            // It has the packages of its base.
            ("extends = \"debian-base\"", "1: profile \"a\": 'image' and \"packages\" exclude"),
        ] {
            let refusal = with(&format!("[profiles.a]\nimage = \"x.y/z\"\n{keys}\n")).unwrap_err();
            assert!(refusal.message.starts_with(&format!("extra.toml:{problem}")), "{refusal}");
        }
        let refusal = with("[profiles.a]\nimage = \"-x\"\n").unwrap_err();
        assert!(
            refusal.message.starts_with("extra.toml:2: profile \"a\": \"-x\" does not"),
            "{refusal}"
        );
        assert!(with("[defaults]\nimage = \"alpine\"\n").is_err());
    }

    #[test]
    fn rules_of_a_base_are_added_and_the_mode_is_replaced() {
        let merged = with(
            "[profiles.a]\nextends = \"debian-base\"\nnetwork = \"egress\"\nallow = [\"a.example\"]\n\
             publish = [\"8080:80\"]\n\
             [profiles.b]\nextends = \"a\"\nnetwork = \"none\"\nallow = [\"B.example:443\", \"a.example\"]\n",
        )
        .unwrap();
        let network = &merged.profiles["b"].network;
        let allowed: Vec<String> = network.allow.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["a.example", "b.example:443"]);
        assert_eq!((network.mode, network.publish.len()), (NetworkMode::None, 1));
        assert!(merged.profiles["debian-base"].network.is_none());
    }

    #[test]
    fn a_rule_that_is_wrong_is_named_with_its_place_and_a_remedy() {
        for (text, place, hint) in [
            (
                "[profiles.a]\nextends = \"debian-base\"\nallow = [\"a.example\", \"https://b.example/\"]\n\
                 [profiles.b]\nextends = \"a\"\nallow = [\"c.example\"]\n",
                "extra.toml:3: allow in [profiles.a]: cannot allow \"https://b.example/\"",
                "name the host only",
            ),
            ("[defaults]\npublish = [\"80\"]\n", "extra.toml:2: publish in [defaults]: ", "80:80"),
            ("[defaults]\nnetwork = \"all\"\n", "extra.toml:2: network in [defaults] must be ", ""),
        ] {
            let refusal = with(text).unwrap_err();
            assert!(refusal.message.starts_with(place), "{refusal}");
            assert!(refusal.hint.unwrap_or_default().contains(hint), "{text}");
        }
    }

    #[test]
    fn no_profile_has_more_network_than_the_limit() {
        for (limit, keys, problem) in [
            ("none", "publish = [\"1:1\"]", Some("publish")),
            ("none", "allow = [\"a.example\"]", Some("allow")),
            ("named", "network = \"egress\"", Some("network")),
            ("named", "allow = [\"a.example\"]", None),
            ("egress", "network = \"egress\"", None),
        ] {
            let text = format!(
                "[limits]\nnetwork = {limit:?}\n[profiles.a]\nextends = \"debian-base\"\n{keys}\n"
            );
            let message = with(&text).err().map(|refusal| refusal.message);
            let expected = problem.map(|key| {
                format!("extra.toml:5: profile \"a\": {key} is more than limits.network permits, which is {limit}")
            });
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn the_kernel_is_the_cloud_one_except_for_nested_vms() {
        let merged = with("[profiles.mine]\nextends = \"debian-kvm\"\n").unwrap();
        let kernel = |name: &str| merged.profiles[name].recipe.kernel();
        for name in ["debian-base", "debian-git", "debian-build"] {
            assert_eq!(kernel(name), Some("linux-image-cloud-amd64"));
        }
        assert_eq!(kernel("debian-kvm"), Some("linux-image-amd64"));
        assert_eq!(kernel("mine"), Some("linux-image-amd64"));
    }

    /// Otherwise images whose `image.json` names no kernel would be rebuilt.
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
