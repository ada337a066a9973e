//! Everything the environment and the global flags say, in one place.

use std::path::PathBuf;

use anyhow::Result;

use super::directories::Directories;
use super::profiles;
use crate::model::{Accelerator, BackendChoice, Kind, Profile, Profiles, Refusal};

/// What flags and their variables said.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub state_dir: Option<PathBuf>,
    pub artifacts_dir: Option<PathBuf>,
    pub profiles: Option<PathBuf>,
    pub backend: BackendChoice,
    pub accelerator: Option<Accelerator>,
    pub qemu_bin: Option<PathBuf>,
    pub firecracker_bin: Option<PathBuf>,
    pub jailer_bin: Option<PathBuf>,
    pub max_active_vms: Option<u32>,
}

/// The settings of this command.
#[derive(Debug, Clone)]
pub struct Settings {
    pub directories: Directories,
    pub backend: BackendChoice,
    /// Refuse every other accelerator.
    pub accelerator: Option<Accelerator>,
    pub qemu_bin: PathBuf,
    pub firecracker_bin: PathBuf,
    pub jailer_bin: PathBuf,
    profiles_file: Option<PathBuf>,
    max_active_vms: Option<u32>,
}

impl Settings {
    /// Completes what was said with defaults. Touches no file.
    pub fn resolve(overrides: Overrides) -> Result<Settings> {
        Ok(Settings {
            directories: Directories::resolve(overrides.state_dir, overrides.artifacts_dir)?,
            backend: overrides.backend,
            accelerator: overrides.accelerator,
            qemu_bin: overrides.qemu_bin.unwrap_or_else(|| "qemu-system-x86_64".into()),
            firecracker_bin: overrides.firecracker_bin.unwrap_or_else(|| "firecracker".into()),
            jailer_bin: overrides.jailer_bin.unwrap_or_else(|| "jailer".into()),
            profiles_file: overrides.profiles,
            max_active_vms: overrides.max_active_vms,
        })
    }

    /// All profiles and the limits, read anew: most verbs need none.
    pub fn profiles(&self) -> Result<Profiles> {
        let mut profiles = profiles::load(self.profiles_file.as_deref())?;
        if let Some(max) = self.max_active_vms {
            profiles.limits.max_active_vms = max;
        }
        Ok(profiles)
    }
}

/// The profile of that name.
pub fn find_profile<'a>(profiles: &'a Profiles, name: &str) -> Result<&'a Profile, Refusal> {
    profiles.profiles.get(name).ok_or_else(|| {
        let known: Vec<&str> = profiles.profiles.keys().map(String::as_str).collect();
        let all = format!("the profiles are {}; see 'mayfly profiles'", known.join(", "));
        Refusal::new(Kind::NotFound, format!("no profile {name:?}"))
            .hint_at_nearest(name, known, all)
    })
}
