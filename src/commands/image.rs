//! `mayfly image build`, `ls` and `rm`.

use anyhow::Result;
use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use serde_json::json;

use super::App;
use super::building::building;
use super::candidates;
use crate::host::signals::Signals;
use crate::lifecycle::{self, Manager};
use crate::output::{ImageView, images_table};

const EXAMPLES: &str = "\
Examples:
  mayfly image build                  debian-base
  mayfly image build debian-build
  mayfly image ls
  mayfly image rm debian-git";

/// Build, list and delete the images VMs boot
///
/// An image is built from Debian packages, once for each profile; 'create' and 'run' build a missing
/// one by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the image of a profile, unless it is there and up to date
    ///
    /// Installs Debian packages into a directory and makes file systems of it, which takes half a
    /// minute or more and the network. An image is out of date when its profile names other packages;
    /// newer versions of them are installed with --force.
    Build {
        /// The profile whose image to build
        #[arg(
            value_name = "PROFILE", default_value = "debian-base",
            add = ArgValueCompleter::new(candidates::profiles)
        )]
        profile: String,

        /// Build it anew in any case, for newer packages
        #[arg(short, long)]
        force: bool,
    },

    /// List images
    Ls,

    /// Delete the image of a profile
    ///
    /// Refuses while there are VMs that were made from it. Its templates go with it.
    Rm {
        /// The profile whose image to delete
        #[arg(value_name = "PROFILE", add = ArgValueCompleter::new(candidates::images))]
        profile: String,

        /// Delete it even if VMs need it to start again; succeed also where there is none
        #[arg(short, long)]
        force: bool,
    },
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    match args.action {
        Action::Build { profile, force } => build(app, &profile, force),
        Action::Ls => list(app),
        Action::Rm { profile, force } => remove(app, &profile, force),
    }
}

fn build(app: &App, profile: &str, force: bool) -> Result<u8> {
    let manager = Manager::open(app.settings.clone())?;
    let mut signals = Signals::block()?;
    let info = building(app, &mut signals, |progress| {
        lifecycle::build_image(&manager, profile, force, progress)
    })?;
    let disk_bytes = manager.images()?.disk_usage(profile)?;
    app.printer.done(&ImageView::new(&info, disk_bytes), profile)?;
    Ok(0)
}

fn list(app: &App) -> Result<u8> {
    let manager = Manager::open_to_read(app.settings.clone())?;
    let images = manager.list_images()?;
    match app.printer.style.json {
        true => {
            let views: Vec<_> =
                images.iter().map(|(info, bytes)| ImageView::new(info, *bytes)).collect();
            app.printer.json(&views)?;
        }
        false => app.printer.data(&images_table(&images))?,
    }
    Ok(0)
}

fn remove(app: &App, profile: &str, force: bool) -> Result<u8> {
    let manager = Manager::open(app.settings.clone())?;
    let deleted = lifecycle::remove_image(&manager, profile, force)?;
    app.printer.done(&json!({ "profile": profile, "deleted": deleted }), profile)?;
    Ok(0)
}
