//! All settings, from flags, the environment and files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::OnceLock;

use anyhow::Result;

use super::config::{ConfigFiles, ConfigKey, ValueOrigin};
use super::directories::MayflyDirectories;
use super::flags::SettingOverrides;
use super::profiles;
use crate::model::{
    Profile, ProfileName, ProfileSet, PublishedPort, Refusal, RefusalKind, ValueRange, listed,
};

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

    /// The same settings, which read the profile files again.
    pub fn reread(&self) -> Settings {
        Settings { profiles: OnceLock::new(), ..self.clone() }
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

    /// How a user knows a key whose value is wrong: as a flag, a variable, or a place in a file.
    pub fn source(&self, key: &'static str) -> String {
        match ConfigKey::find(key).map(|key| self.explain(key).1) {
            Some(ValueOrigin::Variable(variable)) => variable,
            Some(ValueOrigin::File { path, line }) => format!("{}:{line}: {key}", path.display()),
            _ => format!("--{}", key.replace('_', "-")),
        }
    }

    /// The file that sets a limit, or that a user would set it in.
    pub fn limit_place(&self, limit: &str) -> Result<String> {
        let place = self.profiles()?.places.get(&format!("limits.{limit}")).map(str::to_owned);
        Ok(place.unwrap_or_else(profiles::own_file))
    }

    /// The profile that `--profile` names.
    ///
    /// # Errors
    /// `NotFound` if there is none, with the variable or file that names it.
    pub fn profile(&self, name: &str) -> Result<&Profile> {
        let found = find_profile(self.profiles()?, name);
        Ok(found.map_err(|refusal| match self.source("profile") {
            flag if flag.starts_with('-') => refusal,
            source => Refusal { message: format!("{source}: {}", refusal.message), ..refusal },
        })?)
    }

    /// Checks a value; `named` is what a user would change.
    ///
    /// # Errors
    /// `Usage` if it is outside the limit.
    pub fn check_limit(
        &self,
        limit: &str,
        bounds: ValueRange,
        (named, value): (&str, u64),
        shown: fn(u64) -> String,
    ) -> Result<()> {
        let Some(problem) = bounds.problem(named, value, shown) else { return Ok(()) };
        let change = if value > bounds.max { "raise" } else { "lower" };
        let hint = format!("{change} [limits] {limit} in {}", self.limit_place(limit)?);
        Err(Refusal::usage(problem).hint(hint).into())
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
        let source = self.source("profiles");
        let extra = self.flags.profiles.as_deref().map(|path| (path, source.as_str()));
        let mut profiles = profiles::load(&self.directories.artifacts, extra)?;
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
        let refusal = Refusal::new(RefusalKind::NotFound, format!("no profile {name:?}"));
        if let Some(ports) = published_as(name) {
            return refusal
                .hint(format!("'-p' names a profile; '--publish {ports}' publishes a port"));
        }
        let known = || profiles.profiles.keys().map(ProfileName::as_str);
        let all = format!("the profiles are {}; see 'mayfly profiles'", listed(known()));
        refusal.hint_at_nearest(name, known(), all)
    })
}

/// What docker's `-p` takes, such as `8080:80`, as `--publish` takes it.
fn published_as(name: &str) -> Option<PublishedPort> {
    // Docker chooses the host's port if there is only one.
    let is_port = name.parse::<u16>().is_ok();
    let ports = if is_port { format!("0:{name}") } else { name.replacen("::", ":0:", 1) };
    ports.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_docker_are_recognized() {
        for (typed, ports) in [
            ("8080:80", Some("127.0.0.1:8080:80")),
            ("0.0.0.0:8080:80/udp", Some("0.0.0.0:8080:80/udp")),
            ("127.0.0.1::80", Some("127.0.0.1:0:80")),
            ("80", Some("127.0.0.1:0:80")),
            ("debian-git", None),
            ("a:80", None),
        ] {
            let found = published_as(typed).map(|ports| ports.to_string());
            assert_eq!(found.as_deref(), ports, "{typed}");
        }
    }
}
