//! All settings, from flags, the environment and files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::OnceLock;

use anyhow::Result;

use super::config::{ConfigFiles, ConfigKey, ValueOrigin};
use super::directories::MayflyDirectories;
use super::flags::SettingOverrides;
use super::profiles;
use crate::model::{Profile, ProfileName, ProfileSet, Refusal, RefusalKind};

/// The settings of this command.
#[derive(Debug, Clone)]
pub struct Settings {
    pub directories: MayflyDirectories,
    pub flags: SettingOverrides,
    sources: SettingSources,
    /// What the profile files said when they were read.
    profiles: OnceLock<ProfileSet>,
}

/// Where values come from.
#[derive(Debug, Clone, Default)]
pub struct SettingSources {
    /// Values of flags, by key.
    pub flags: BTreeMap<&'static str, OsString>,
    pub config: ConfigFiles,
}

impl Settings {
    /// Completes the settings with defaults. Reads no file.
    pub fn resolve(flags: SettingOverrides, sources: SettingSources) -> Result<Settings> {
        let (state, artifacts) = (flags.state_dir.clone(), flags.artifacts_dir.clone());
        let directories = MayflyDirectories::resolve(state, artifacts, flags.runtime_dir.clone())?;
        Ok(Settings { directories, flags, sources, profiles: OnceLock::new() })
    }

    /// A key's value as its flag has it, and where it comes from. `None` if it is not set and has no built-in
    /// default.
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

    /// All profiles and the limits. Read on first use, as most verbs need none, and only once, so that they do
    /// not change during a command.
    ///
    /// # Errors
    /// `Usage` or `Host`; see [`profiles::load`].
    pub fn profiles(&self) -> Result<&ProfileSet> {
        if let Some(profiles) = self.profiles.get() {
            return Ok(profiles);
        }
        let mut profiles =
            profiles::load(&self.directories.artifacts, self.flags.profiles.as_deref())?;
        if let Some(max) = self.flags.max_active_vms {
            profiles.limits.max_active_vms = max;
        }
        Ok(self.profiles.get_or_init(|| profiles))
    }
}

/// The profile of that name.
///
/// # Errors
/// `NotFound` if there is none.
pub fn find_profile<'a>(profiles: &'a ProfileSet, name: &str) -> Result<&'a Profile, Refusal> {
    profiles.profiles.get(name).ok_or_else(|| {
        let known: Vec<&str> = profiles.profiles.keys().map(ProfileName::as_str).collect();
        let all = format!("the profiles are {}; see 'mayfly profiles'", known.join(", "));
        Refusal::new(RefusalKind::NotFound, format!("no profile {name:?}"))
            .hint_at_nearest(name, known, all)
    })
}
