//! One `profiles.toml` as written. Every field is optional, because another file may set it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::file_values::{FileValues, KnownKey, not_toml, place};
use super::network_rules;
use crate::model::{
    ImageRecipe, ImageReference, Isolation, KeyPlaces, NetworkLimit, NetworkMode, ProfileName,
    Refusal, ValueRange,
};

/// A key of a table, for the manual and for error messages.
#[derive(Debug)]
pub struct ProfileKey {
    pub name: &'static str,
    /// What a value looks like.
    pub form: &'static str,
    /// What it must be, in words.
    pub(super) expected: &'static str,
    /// The description in the manual.
    pub about: &'static str,
}

/// The keys of `[limits]`, in the order of the manual.
pub const LIMIT_KEYS: &[ProfileKey] = LimitsLayer::KEYS;
/// The keys of a profile and of `[defaults]`.
pub const PROFILE_KEYS: &[ProfileKey] = ProfileLayer::KEYS;

/// How the manual writes values of a type, and how errors describe them.
trait ValueForm {
    const FORM: &'static str;
    const EXPECTED: &'static str;
}

macro_rules! forms {
    ($($kind:ty: $form:literal, $expected:literal;)*) => {
        $(impl ValueForm for $kind {
            const FORM: &'static str = $form;
            const EXPECTED: &'static str = $expected;
        })*
    };
}

forms! {
    String: "text", "a text in quotes";
    Vec<String>: "[ text, ... ]", "a list of texts, such as [\"git\", \"jq\"]";
    BTreeMap<String, String>: "{ NAME = text, ... }", "a table of texts, such as { LANG = \"C\" }";
    u32: "number", "a whole number below 4294967296";
    u64: "number", "a whole number";
    ValueRange: "{ min = number, max = number }", "a range, such as { min = 1, max = 8 }";
    bool: "true | false", "true or false";
    Isolation: "\"none\" | \"emulated\" | \"hardware\"", "\"none\", \"emulated\" or \"hardware\"";
    NetworkMode: "\"none\" | \"egress\"", "\"none\" or \"egress\"";
    NetworkLimit: "\"none\" | \"named\" | \"egress\"", "\"none\", \"named\" or \"egress\"";
}

/// A table of a file: its keys, described in the manual, and how it is read and merged. The field after `and` is
/// not a key.
macro_rules! table {
    (
        $name:ident { $($(#[doc = $about:literal])+ $key:ident: $form:ty),* $(,)? }
        $(and $(#[$aside:meta])* $other:ident: $kind:ty)?
    ) => {
        #[derive(Debug, Default, Clone, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[doc = $about])+ pub(super) $key: Option<$form>,)*
            $($(#[$aside])* #[serde(skip)] pub(super) $other: Option<$kind>)?
        }

        impl $name {
            const KEYS: &[ProfileKey] = &[$(ProfileKey {
                name: stringify!($key),
                form: <$form as ValueForm>::FORM,
                expected: <$form as ValueForm>::EXPECTED,
                about: concat!($($about),+),
            }),*];

            fn or(self, lower: $name) -> $name {
                $name {
                    $($key: self.$key.or(lower.$key),)*
                    $($other: self.$other.or(lower.$other))?
                }
            }
        }
    };
}

table!(LimitsLayer {
    /// How many VMs may exist. MAYFLY_MAX_ACTIVE_VMS overrides it.
    max_active_vms: u32,
    /// How many virtual CPUs a VM may have.
    vcpu_count: ValueRange,
    /// How much memory a VM may have, in MiB.
    mem_mib: ValueRange,
    /// How many seconds a VM may live, and how much time 'extend' may give it.
    ttl_seconds: ValueRange,
    /// The host users of root's VMMs, one each, and groups. Nothing else may use them. From 1 to 2147483647.
    vmm_uid: ValueRange,
    /// The most network that VMs may have: none, only what rules name and published ports, or the internet as well.
    network: NetworkLimit,
    /// How many seconds a VM waits in the pool before it ends.
    pool_ttl_seconds: u64,
    /// 'reap' deletes templates that were not used for this many seconds.
    template_unused_seconds: u64,
    /// How many MiB one copy may bring out of a VM.
    copy_out_mib: u64,
    /// How many files and directories one copy may bring out of a VM.
    copy_out_files: u64,
    /// How many MiB such a copy leaves free on the destination's disk.
    copy_out_free_mib: u64,
});

table!(ProfileLayer {
    /// What 'mayfly profiles' shows.
    description: String,
    /// The profile that this one is based on. This one has its fields, unless it sets them itself, and the
    /// packages, 'allow' and 'publish' of both. Profiles that 'image import' and 'image pull' made cannot be extended.
    extends: String,
    /// The container image to pull instead of packages, as 'image pull' takes it: "alpine:3.19". 'create' and 'run' pull
    /// it if it is missing, and 'image build' pulls it again. Its kernel is that of debian-base.
    image: String,
    /// Debian packages of the image. The kernel and Debian's essential packages need not be named.
    packages: Vec<String>,
    /// The Debian suite of the image.
    suite: String,
    /// Where the packages come from: http://, https://, file:/ or copy:/. It overrides MAYFLY_DEBIAN_MIRROR.
    mirror: String,
    /// The package of the image's kernel, which begins with linux-image-.
    kernel: String,
    /// The size of the image's read-only root file system in MiB, from 512 to 16777216. The file is sparse.
    root_mib: u32,
    /// The size of each VM's own disk in MiB, from 64 to 16777216. The file is sparse.
    disk_mib: u32,
    /// How many virtual CPUs a VM has.
    vcpu_count: u32,
    /// The memory of a VM in MiB.
    mem_mib: u32,
    /// How many seconds a VM lives.
    ttl_seconds: u64,
    /// Whether a VM is kept after 'exec'.
    keep: bool,
    /// The least isolation that a VM may have.
    require: Isolation,
    /// Whether a VM has a /dev/kvm, to run VMs itself. It then runs on QEMU.
    nested: bool,
    /// What a VM reaches besides what 'allow' names: nothing, or the internet. --net overrides it; --net none also
    /// turns off 'allow' and 'publish'.
    network: NetworkMode,
    /// What a VM may reach, as --allow takes it: "example.org", "192.168.1.7:5432". --allow adds to it.
    allow: Vec<String>,
    /// The VM's ports that this host can reach, as --publish takes them: "8080:80". --publish adds to them.
    publish: Vec<String>,
    /// What 'run' puts before its command.
    entrypoint: Vec<String>,
    /// The command of 'run' if none is given.
    cmd: Vec<String>,
    /// Variables of commands. Those of other files and of the profile in 'extends' are added, name by name.
    env: BTreeMap<String, String>,
    /// The user of commands: a name or a number, optionally followed by ':GROUP'. Without it, root.
    user: String,
    /// The directory of commands. Without it, the user's home directory.
    workdir: String,
} and
/// What the image was imported or pulled from; not a key of users' files.
origin: ImageRecipe);

impl ProfileLayer {
    pub(super) fn over(mut self, mut lower: ProfileLayer) -> ProfileLayer {
        if let Some(upper) = &mut self.env {
            for (name, value) in lower.env.take().unwrap_or_default() {
                upper.entry(name).or_insert(value);
            }
        }
        self.or(lower)
    }
}

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilesFile {
    #[serde(default)]
    pub(super) limits: LimitsLayer,
    #[serde(default)]
    pub(super) defaults: ProfileLayer,
    #[serde(default)]
    pub(super) profiles: BTreeMap<ProfileName, ProfileLayer>,
}

impl ProfilesFile {
    /// Reads a file's text, and adds the places of its keys to `places`.
    ///
    /// # Errors
    /// `Usage`, naming the file, the line and the key.
    pub(super) fn parse(
        text: &str,
        origin: &str,
        places: &mut KeyPlaces,
    ) -> Result<ProfilesFile, Refusal> {
        let whole =
            DeTable::parse(text).map_err(|error| not_toml(&error, |at| place(text, origin, at)))?;
        let known = |keys: &[ProfileKey]| -> Vec<KnownKey> {
            keys.iter().map(|key| (key.name, key.expected)).collect()
        };
        let (limits, profile) = (known(LIMIT_KEYS), known(PROFILE_KEYS));
        let values = FileValues::of(text, origin, whole.get_ref(), &limits, &profile)?;
        let file: ProfilesFile = toml::from_str(text).map_err(|error| values.refuse(&error))?;
        file.check_rules(&values)?;
        for value in values.all {
            places.insert(value.path, place(text, origin, value.key.start));
        }
        Ok(file)
    }

    /// Checks the rules of all profiles here, where their places are known.
    fn check_rules(&self, values: &FileValues<'_>) -> Result<(), Refusal> {
        let profiles =
            self.profiles.iter().map(|(name, layer)| (format!("profiles.{name}"), layer));
        for (path, layer) in profiles.chain([("defaults".to_owned(), &self.defaults)]) {
            network_rules::check(layer.allow.as_deref(), layer.publish.as_deref())
                .map_err(|(key, refusal)| values.refuse_as(&format!("{path}.{key}"), refusal))?;
        }
        Ok(())
    }

    /// The profiles of imported and pulled images, without those for which this file names another image.
    pub(super) fn fitting(
        &self,
        mut profiles: BTreeMap<ProfileName, ProfileLayer>,
    ) -> ProfilesFile {
        profiles.retain(|name, layer| {
            let named = self.profiles.get(name).and_then(|own| own.image.as_ref());
            let pulled = layer.origin.as_ref().and_then(ImageRecipe::pulled);
            named.is_none_or(|image| {
                let reference = image.parse::<ImageReference>().ok();
                reference.is_some() && pulled.map(|pull| &pull.reference) == reference.as_ref()
            })
        });
        ProfilesFile { profiles, ..ProfilesFile::default() }
    }

    pub(super) fn over(self, lower: ProfilesFile) -> ProfilesFile {
        let mut profiles = lower.profiles;
        for (name, upper) in self.profiles {
            let below = profiles.remove(&name).unwrap_or_default();
            profiles.insert(name, upper.over(below));
        }
        ProfilesFile {
            limits: self.limits.or(lower.limits),
            defaults: self.defaults.over(lower.defaults),
            profiles,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RefusalKind;

    fn refused(text: &str) -> (String, String) {
        let refusal = ProfilesFile::parse(text, "my.toml", &mut KeyPlaces::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Usage);
        (refusal.message, refusal.hint.unwrap_or_default())
    }

    #[test]
    fn an_unknown_key_is_reported_with_its_place_and_the_nearest_one() {
        for (text, message, hint) in [
            ("[limit]\nmem_mib = 1", "1: unknown key \"limit\"", "did you mean \"limits\"? "),
            ("\nmem_mib = 1", "2: unknown key \"mem_mib\"", "the keys are limits, "),
            (
                "[limits]\nmem_mib = { min = 1, max = 2 }\nmax_activ_vms = 1",
                "3: unknown key \"max_activ_vms\" in [limits]",
                "did you mean \"max_active_vms\"? the keys are max_active_vms, ",
            ),
            (
                "[defaults]\nvcpus = 1",
                "2: unknown key \"vcpus\" in [defaults]",
                "the keys are description, ",
            ),
            (
                "[profiles.a]\n\n[profiles.b]\nkeep = true\nextend = \"a\"",
                "5: unknown key \"extend\" in [profiles.b]",
                "did you mean \"extends\"? ",
            ),
            (
                "profiles.a = { pakages = [] }",
                "1: unknown key \"pakages\" in [profiles.a]",
                "did you mean \"packages\"? ",
            ),
        ] {
            let (shown, advice) = refused(text);
            assert_eq!(shown, format!("my.toml:{message}"), "{text}");
            assert!(advice.starts_with(hint), "{text}: {advice}");
        }
    }

    #[test]
    fn other_mistakes_are_named_too() {
        let range = "a range, such as { min = 1, max = 8 }";
        for (text, message) in [
            ("limits = 1", "1: limits must be a table, not 1"),
            ("\nprofiles = []", "2: profiles must be a table, not []"),
            ("profiles.a = 1", "1: profiles.a must be a table, not 1"),
            ("[profiles.a]\nkeep = 1", "2: keep in [profiles.a] must be true or false, not 1"),
            (
                "[defaults]\nmem_mib = 4_294_967_296",
                "2: mem_mib in [defaults] must be a whole number below 4294967296, not 4_294_967_296",
            ),
            (
                "[limits]\nmem_mib = { min = 1, most = 2 }",
                &format!("2: mem_mib in [limits] must be {range}, not {{ min = 1, most = 2 }}"),
            ),
            ("[limits", "1: this is not TOML: "),
            ("[profiles.\"../up\"]", "1: \"../up\" cannot be a profile name: "),
        ] {
            let (shown, _) = refused(text);
            assert!(shown.starts_with(&format!("my.toml:{message}")), "{text}: {shown}");
        }
    }

    #[test]
    fn the_last_file_that_sets_a_key_is_its_place() {
        let mut places = KeyPlaces::default();
        for (file, text) in [
            ("first", "[limits]\nmax_active_vms = 1\ncopy_out_mib = 1"),
            ("second", "[profiles.a]\nkeep = true\n[limits]\nmax_active_vms = 1"),
        ] {
            ProfilesFile::parse(text, file, &mut places).unwrap();
        }
        for (key, place) in [
            ("limits.max_active_vms", Some("second:4")),
            ("limits.copy_out_mib", Some("first:3")),
            ("profiles.a", Some("second:1")),
            ("profiles.a.keep", Some("second:2")),
            ("profiles.a.env", None),
        ] {
            assert_eq!(places.get(key), place, "{key}");
        }
    }
}
