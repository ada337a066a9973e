//! `mayfly config show` and `path`.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use clap_complete::{ArgValueCompleter, CompletionCandidate};

use super::AppContext;
use crate::model::{MemMib, Profile, Refusal, RefusalKind, TimeSpan};
use crate::output::{PathView, SettingOrigin, SettingView, settings_table};
use crate::settings::{ConfigKey, KEYS, find_profile, own_file};

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

/// A setting and its value, as a flag has it.
struct ShownSetting {
    key: &'static ConfigKey,
    value: Option<String>,
    origin: SettingOrigin,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    match args.action {
        Action::Show { keys } => show(app, &keys),
        Action::Path => {
            let path = own_file().context("HOME is not set")?;
            let shown = path.display().to_string();
            app.printer.answer(&PathView { path }, &shown)?;
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
    let keys: Vec<&'static ConfigKey> = match wanted {
        [] => KEYS.iter().collect(),
        wanted => wanted.iter().map(find).collect::<Result<_, _>>()?,
    };
    let look_up = |key| {
        let (value, origin) = app.settings.explain(key);
        let value = value.map(|value| value.to_string_lossy().into_owned());
        ShownSetting { key, value, origin: SettingOrigin::Set(origin) }
    };
    let mut settings: Vec<ShownSetting> = keys.into_iter().map(look_up).collect();
    if settings.iter().any(|setting| setting.value.is_none()) {
        fill_in(app, &mut settings)?;
    }
    let row = |ShownSetting { key, value, origin }: &ShownSetting| {
        let value = value.clone().unwrap_or_else(|| "-".into());
        [key.name.to_owned(), value, origin.describe(key)]
    };
    let view = |ShownSetting { key, value, origin }: &ShownSetting| {
        SettingView::new(key, value.as_deref(), origin)
    };
    let views: Vec<SettingView> = settings.iter().map(view).collect();
    app.printer.answer(&views, &settings_table(app.printer.layout(), settings.iter().map(row)))?;
    Ok(0)
}

/// Completes the values that come from the default profile or from limits in profile files.
fn fill_in(app: &AppContext, settings: &mut [ShownSetting]) -> Result<()> {
    let profiles = app.settings.profiles()?;
    let name = ConfigKey::find("profile").map(|key| app.settings.explain(key).0);
    let name = name.flatten().unwrap_or_default();
    let name = name.to_string_lossy();
    let profile = find_profile(profiles, &name).ok();
    for setting in settings.iter_mut().filter(|setting| setting.value.is_none()) {
        if let Some(value) = profile.and_then(|profile| profile_value(profile, setting.key.name)) {
            setting.value = Some(value);
            setting.origin = SettingOrigin::Profile(name.clone().into_owned());
        } else if setting.key.name == "max_active_vms" {
            setting.value = Some(profiles.limits.max_active_vms.to_string());
            setting.origin = SettingOrigin::Limits;
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
        "net" => profile.network.mode.to_string(),
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
