//! `mayfly profiles`.

use std::collections::BTreeSet;

use anyhow::Result;

use super::AppContext;
use crate::model::{Profile, ProfileName};
use crate::output::{ProfileView, profiles_table};

/// List profiles, their defaults, and whether their image is built
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly profiles
  mayfly profiles --json | jq -r '.[].profile'

Profiles are read from the built-in file, /etc/mayfly/profiles.toml, ~/.config/mayfly/profiles.toml
($XDG_CONFIG_HOME; not as root) and the file MAYFLY_PROFILES names; later files override earlier ones, key by
key. mayfly-profiles(5) describes all keys and limits.")]
pub struct Args {}

pub fn serve(app: &AppContext, _: Args) -> Result<u8> {
    let profiles = &app.settings.profiles()?.profiles;
    let images = app.open_to_read()?.list_images()?;
    let built: BTreeSet<ProfileName> = images.into_iter().map(|(image, _)| image.profile).collect();
    let view = |profile: &Profile| ProfileView::new(profile, built.contains(profile.name.as_str()));
    let views: Vec<_> = profiles.values().map(view).collect();
    let names = profiles.keys().map(ProfileName::as_str);
    app.printer.list(
        &views,
        names,
        &profiles_table(app.printer.layout(), profiles.values(), &built),
    )?;
    Ok(0)
}
