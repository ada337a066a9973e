//! `mayfly config show` and `path`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use serde::Serialize;

use super::AppContext;
use crate::model::{MemMib, Profile, Refusal, RefusalKind, TimeSpan};
use crate::output::settings_table;
use crate::settings::{ConfigKey, KEYS, ValueOrigin, find_profile, own_file};

/// Show settings and where each value comes from
///
/// In order of precedence: flag, variable, the file MAYFLY_CONFIG names, your config.toml, the host's
/// config.toml, the profile, the built-in default.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly config show
  mayfly config show backend mem
  mayfly config show --json | jq -r '.[] | select(.origin == \"file\").key'
  ${EDITOR:-vi} \"$(mayfly config path)\"

Defaults are read from the file MAYFLY_CONFIG names, ~/.config/mayfly/config.toml ($XDG_CONFIG_HOME; not
as root) and /etc/mayfly/config.toml. mayfly-config(5) describes all keys.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show each setting, its value, and where the value comes from
    ///
    /// Settings from a file show its path and line.
    #[command(after_help = "\
Examples:
  mayfly config show
  mayfly config show backend mem
  MAYFLY_TTL=5m mayfly config show ttl    with a variable")]
    Show {
        /// Show only this key; may be given several times
        #[arg(value_name = "KEY", add = ArgValueCompleter::new(keys))]
        keys: Vec<String>,
    },

    /// Print the path of your settings file
    #[command(after_help = "\
Examples:
  ${EDITOR:-vi} \"$(mayfly config path)\"")]
    Path,
}

/// A setting, as printed with `--json`.
#[derive(Debug, Serialize)]
struct SettingView {
    key: &'static str,
    value: Option<String>,
    /// `flag`, `variable`, `file`, `profile`, `profiles` or `built_in`.
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The origin for people to read.
    #[serde(skip)]
    from: String,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    match args.action {
        Action::Show { keys } => show(app, &keys),
        Action::Path => {
            let path = own_file().context("HOME is not set")?;
            app.printer.data(&path.display().to_string())?;
            Ok(0)
        }
    }
}

fn show(app: &AppContext, wanted: &[String]) -> Result<u8> {
    let find = |name: &String| {
        ConfigKey::find(name).ok_or_else(|| {
            let known = KEYS.iter().map(|key| key.name);
            Refusal::new(RefusalKind::NotFound, format!("no key {name:?}")).hint_at_nearest(
                name,
                known,
                "'mayfly config show' lists all keys",
            )
        })
    };
    let keys: Vec<&ConfigKey> = match wanted {
        [] => KEYS.iter().collect(),
        wanted => wanted.iter().map(find).collect::<Result<_, _>>()?,
    };
    let mut views: Vec<SettingView> = keys.into_iter().map(|key| view(app, key)).collect();
    if views.iter().any(|view| view.value.is_none()) {
        fill_in(app, &mut views)?;
    }
    let row = |view: &SettingView| {
        let value = view.value.clone().unwrap_or_else(|| "-".into());
        [view.key.to_owned(), value, view.from.clone()]
    };
    app.printer.answer(&views, &settings_table(views.iter().map(row)))?;
    Ok(0)
}

/// The value from flags, variables, files or the built-in default.
fn view(app: &AppContext, key: &ConfigKey) -> SettingView {
    let (value, origin) = app.settings.explain(key);
    let value = value.map(|value| value.to_string_lossy().into_owned());
    let (origin, from, variable, place) = match origin {
        ValueOrigin::BuiltIn => ("built_in", "built-in".into(), None, None),
        ValueOrigin::Flag => ("flag", format!("--{}", key.name.replace('_', "-")), None, None),
        ValueOrigin::Variable(name) => ("variable", name.clone(), Some(name), None),
        ValueOrigin::File { path, line } => {
            ("file", format!("{}:{line}", path.display()), None, Some((path, line)))
        }
    };
    let (file, line) = place.unzip();
    SettingView { key: key.name, value, origin, variable, file, line, from }
}

/// Completes the values that come from the default profile or from limits in profile files.
fn fill_in(app: &AppContext, views: &mut [SettingView]) -> Result<()> {
    let profiles = app.settings.profiles()?;
    let name = ConfigKey::find("profile").map(|key| app.settings.explain(key).0);
    let name = name.flatten().unwrap_or_default();
    let name = name.to_string_lossy();
    let profile = find_profile(profiles, &name).ok();
    for view in views.iter_mut().filter(|view| view.value.is_none()) {
        if let Some(value) = profile.and_then(|profile| profile_value(profile, view.key)) {
            view.value = Some(value);
            view.origin = "profile";
            view.from = format!("profile {name}");
        } else if view.key == "max_active_vms" {
            view.value = Some(profiles.limits.max_active_vms.to_string());
            view.origin = "profiles";
            view.from = "limits of profiles".into();
        }
    }
    Ok(())
}

fn profile_value(profile: &Profile, key: &str) -> Option<String> {
    Some(match key {
        "vcpus" => profile.vcpu_count.to_string(),
        "mem" => MemMib(profile.mem_mib).to_string(),
        "ttl" => TimeSpan(Duration::from_secs(profile.ttl_seconds)).to_string(),
        "keep" => profile.keep.to_string(),
        "require" => profile.require.to_string(),
        "debian_mirror" => profile.recipe.debian()?.mirror.clone()?,
        _ => return None,
    })
}

/// Candidates for KEY, with descriptions.
fn keys(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    let named = KEYS.iter().filter(|key| key.name.starts_with(typed));
    named.map(|key| CompletionCandidate::new(key.name).help(Some(key.about.into()))).collect()
}
