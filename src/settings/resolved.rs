//! Everything that flags, the environment and files say, in one place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Result;

use super::config::{ConfigFiles, ConfigKey, ValueOrigin};
use super::directories::MayflyDirectories;
use super::profiles;
use crate::model::{Accelerator, BackendChoice, Profile, ProfileSet, Refusal, RefusalKind};

/// What flags, their variables and files said.
#[derive(Debug, Clone, Default)]
pub struct SettingOverrides {
    pub state_dir: Option<PathBuf>,
    pub artifacts_dir: Option<PathBuf>,
    pub runtime_dir: Option<PathBuf>,
    pub profiles: Option<PathBuf>,
    pub backend: BackendChoice,
    pub accelerator: Option<Accelerator>,
    pub debian_mirror: Option<String>,
    pub qemu_bin: Option<PathBuf>,
    pub firecracker_bin: Option<PathBuf>,
    pub jailer_bin: Option<PathBuf>,
    pub max_active_vms: Option<u32>,
}

/// The settings of this command.
#[derive(Debug, Clone)]
pub struct Settings {
    pub directories: MayflyDirectories,
    pub backend: BackendChoice,
    /// Refuse every other accelerator.
    pub accelerator: Option<Accelerator>,
    /// Where packages come from, if their profile does not say it.
    pub debian_mirror: Option<String>,
    pub qemu_bin: PathBuf,
    pub firecracker_bin: PathBuf,
    pub jailer_bin: PathBuf,
    profiles_file: Option<PathBuf>,
    max_active_vms: Option<u32>,
    sources: SettingSources,
    /// What the files of profiles said when they were first asked.
    profiles: OnceLock<ProfileSet>,
}

/// Who said what, for the question where a value comes from.
#[derive(Debug, Clone, Default)]
pub struct SettingSources {
    /// What was typed, by key.
    pub flags: BTreeMap<&'static str, OsString>,
    pub config: ConfigFiles,
}

impl Settings {
    /// Completes what was said with defaults. Touches no file.
    pub fn resolve(overrides: SettingOverrides, sources: SettingSources) -> Result<Settings> {
        let SettingOverrides { state_dir, artifacts_dir, runtime_dir, .. } = overrides;
        Ok(Settings {
            directories: MayflyDirectories::resolve(state_dir, artifacts_dir, runtime_dir)?,
            backend: overrides.backend,
            accelerator: overrides.accelerator,
            debian_mirror: overrides.debian_mirror,
            qemu_bin: overrides.qemu_bin.unwrap_or_else(|| "qemu-system-x86_64".into()),
            firecracker_bin: overrides.firecracker_bin.unwrap_or_else(|| "firecracker".into()),
            jailer_bin: overrides.jailer_bin.unwrap_or_else(|| "jailer".into()),
            profiles_file: overrides.profiles,
            max_active_vms: overrides.max_active_vms,
            sources,
            profiles: OnceLock::new(),
        })
    }

    /// A key's value as a flag would have it, and where it comes from. `None` where nobody has said
    /// anything and nothing is built in.
    pub fn explain(&self, key: &ConfigKey) -> (Option<OsString>, ValueOrigin) {
        if let Some(value) = self.sources.flags.get(key.name) {
            return (Some(value.clone()), ValueOrigin::Flag);
        }
        if let Some((value, origin)) = self.sources.config.or_variable(key) {
            return (Some(value), origin);
        }
        let built_in = match key.name {
            "state_dir" => Some(self.directories.state.clone().into()),
            "artifacts_dir" => Some(self.directories.artifacts.clone().into()),
            "runtime_dir" => Some(self.directories.runtime.clone().into()),
            _ => key.built_in.map(OsString::from),
        };
        (built_in, ValueOrigin::BuiltIn)
    }

    /// All profiles and the limits. Read when they are first asked for, as most verbs need none, and not
    /// again: to one command they are the same from its beginning to its end.
    pub fn profiles(&self) -> Result<&ProfileSet> {
        if let Some(profiles) = self.profiles.get() {
            return Ok(profiles);
        }
        let mut profiles =
            profiles::load(&self.directories.artifacts, self.profiles_file.as_deref())?;
        if let Some(max) = self.max_active_vms {
            profiles.limits.max_active_vms = max;
        }
        Ok(self.profiles.get_or_init(|| profiles))
    }
}

/// The profile of that name.
pub fn find_profile<'a>(profiles: &'a ProfileSet, name: &str) -> Result<&'a Profile, Refusal> {
    profiles.profiles.get(name).ok_or_else(|| {
        let known: Vec<&str> = profiles.profiles.keys().map(String::as_str).collect();
        let all = format!("the profiles are {}; see 'mayfly profiles'", known.join(", "));
        Refusal::new(RefusalKind::NotFound, format!("no profile {name:?}"))
            .hint_at_nearest(name, known, all)
    })
}
