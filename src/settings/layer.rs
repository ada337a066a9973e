//! One `profiles.toml` as written. Every field is optional, because another file may set it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::model::{
    CommandDefaults, DebianRecipe, ImageRecipe, ImportRecipe, Isolation, Profile, ProfileName,
    Refusal, RefusalKind, ValueRange,
};

/// A key of a table, for the manual and for error messages.
#[derive(Debug)]
pub struct ProfileKey {
    pub name: &'static str,
    /// What a value looks like.
    pub form: &'static str,
    /// The description in the manual.
    pub about: &'static str,
}

/// The keys of `[limits]`, in the order of the manual.
pub const LIMIT_KEYS: &[ProfileKey] = LimitsLayer::KEYS;
/// The keys of a profile and of `[defaults]`.
pub const PROFILE_KEYS: &[ProfileKey] = ProfileLayer::KEYS;

/// How the manual writes values of a type.
trait ValueForm {
    const FORM: &'static str;
}

macro_rules! forms {
    ($($form:literal: $($kind:ty),*;)*) => { $($(impl ValueForm for $kind { const FORM: &'static str = $form; })*)* };
}

forms! {
    "text": String;
    "[ text, ... ]": Vec<String>;
    "{ NAME = text, ... }": BTreeMap<String, String>;
    "number": u32, u64;
    "{ min = number, max = number }": ValueRange;
    "true | false": bool;
    "\"none\" | \"emulated\" | \"hardware\"": Isolation;
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
    /// The host users that root's VMMs run as, one each, with groups of the same numbers. Nothing else on the
    /// host may use them. At least 1 and at most 2147483647.
    vmm_uid: ValueRange,
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
    /// packages of both. The profile of an imported image cannot be extended.
    extends: String,
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
/// Where the image was imported from; not a key of users' files.
imported: ImportRecipe);

impl ProfileLayer {
    pub(super) fn over(mut self, mut lower: ProfileLayer) -> ProfileLayer {
        if let Some(upper) = &mut self.env {
            for (name, value) in lower.env.take().unwrap_or_default() {
                upper.entry(name).or_insert(value);
            }
        }
        self.or(lower)
    }

    /// The complete profile, with `defaults` for what it does not set; or what is wrong with it.
    pub(super) fn complete(
        self,
        name: &ProfileName,
        defaults: &ProfileLayer,
    ) -> Result<Profile, String> {
        if self.imported.is_some() {
            self.refuse_ingredients()?;
        }
        let layer = self.over(defaults.clone());
        let missing = |field: &str| format!("it has no {field}");
        Ok(Profile {
            name: name.clone(),
            recipe: layer.recipe()?,
            description: layer.description.unwrap_or_default(),
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
        })
    }

    fn recipe(&self) -> Result<ImageRecipe, String> {
        if let Some(import) = &self.imported {
            return Ok(ImageRecipe::Imported(import.clone()));
        }
        let missing = |field: &str| format!("it has no {field}");
        let mut packages = self.packages.clone().unwrap_or_default();
        packages.sort();
        packages.dedup();
        Ok(ImageRecipe::Debian(DebianRecipe {
            suite: self.suite.clone().ok_or_else(|| missing("suite"))?,
            mirror: self.mirror.clone(),
            kernel: self.kernel.clone().ok_or_else(|| missing("kernel"))?,
            packages,
            root_mib: self.root_mib.ok_or_else(|| missing("root_mib"))?,
            disk_mib: self.disk_mib.ok_or_else(|| missing("disk_mib"))?,
        }))
    }

    /// What an imported image is made of cannot be changed here.
    fn refuse_ingredients(&self) -> Result<(), String> {
        let given = [
            ("extends", self.extends.is_some()),
            ("packages", self.packages.is_some()),
            ("suite", self.suite.is_some()),
            ("mirror", self.mirror.is_some()),
            ("kernel", self.kernel.is_some()),
            ("root_mib", self.root_mib.is_some()),
            ("disk_mib", self.disk_mib.is_some()),
        ];
        given.iter().find(|(_, is_given)| *is_given).map_or(Ok(()), |(field, _)| {
            Err(format!(
                "its image was imported, so no file can give it {field}; choose another name"
            ))
        })
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
    /// Reads a file's text.
    ///
    /// # Errors
    /// `Usage`, naming the file, the place and the key.
    pub(super) fn parse(text: &str, origin: &str) -> Result<ProfilesFile, Refusal> {
        check_keys(text, origin)?;
        toml::from_str(text).map_err(|error| {
            Refusal::new(RefusalKind::Usage, format!("{origin}: {}", error.to_string().trim_end()))
        })
    }

    /// The profiles of imported images.
    pub(super) fn imported(profiles: BTreeMap<ProfileName, ProfileLayer>) -> ProfilesFile {
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

/// Refuses a file with an unknown key. Values are checked when they are read.
fn check_keys(text: &str, origin: &str) -> Result<(), Refusal> {
    // What is not TOML is refused by the reader, with a better message.
    let Ok(whole) = DeTable::parse(text) else { return Ok(()) };
    let check = |table: &DeTable<'_>, place: &str, known: &[&str]| {
        let Some((key, _)) = table.iter().find(|(key, _)| !known.contains(&key.get_ref().as_ref()))
        else {
            return Ok(());
        };
        let (name, before) = (key.get_ref(), &text.as_bytes()[..key.span().start]);
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let message = format!("{origin}:{line}: unknown key {name:?}{place}");
        let all = format!("the keys are {}", known.join(", "));
        let refusal = Refusal::new(RefusalKind::Usage, message);
        Err(refusal.hint_at_nearest(name, known.iter().copied(), all))
    };
    let names = |keys: &[ProfileKey]| keys.iter().map(|key| key.name).collect::<Vec<_>>();
    let (limits, of_profiles) = (names(LIMIT_KEYS), names(PROFILE_KEYS));
    check(whole.get_ref(), "", &["limits", "defaults", "profiles"])?;
    for (name, value) in whole.get_ref() {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("limits", DeValue::Table(table)) => check(table, " in [limits]", &limits)?,
            ("defaults", DeValue::Table(table)) => check(table, " in [defaults]", &of_profiles)?,
            (_, DeValue::Table(profiles)) => {
                for (name, value) in profiles {
                    if let DeValue::Table(table) = value.get_ref() {
                        let place = format!(" in [profiles.{}]", name.get_ref());
                        check(table, &place, &of_profiles)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, String) {
        let refusal = ProfilesFile::parse(text, "my.toml").unwrap_err();
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
        for (text, word) in [
            ("limits = 1", "limits = 1"),
            ("profiles = []", "profiles"),
            ("profiles.a = 1", "profiles.a"),
            ("[profiles.a]\nkeep = 1", "keep"),
            ("[limits]\nmem_mib = { min = 1, most = 2 }", "most"),
            ("[limits", "line 1"),
        ] {
            let (shown, _) = refused(text);
            assert!(shown.starts_with("my.toml: ") && shown.contains(word), "{text}: {shown}");
        }
    }
}
