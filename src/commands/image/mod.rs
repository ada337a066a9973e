//! `mayfly image build`, `import`, `ls`, `rm` and `prune`.

mod import;
mod prune;

use anyhow::Result;
use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use serde_json::json;

use crate::commands::AppContext;
use crate::commands::building::building;
use crate::commands::completions::candidates;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, VmManager};
use crate::model::ProfileName;
use crate::output::{ImageView, images_table};

const EXAMPLES: &str = "\
Examples:
  mayfly image build                  debian-base
  mayfly image build debian-build
  mayfly image import alpine.tar      what 'skopeo copy' or 'podman save' wrote
  mayfly image ls
  mayfly image rm debian-git
  mayfly image prune --dry-run        what nothing needs any more";

const BUILD_EXAMPLES: &str = "\
Examples:
  mayfly image build                         of debian-base
  mayfly image build --force debian-build    anew, with the packages' newest versions";

const LS_EXAMPLES: &str = "\
Examples:
  mayfly image ls
  mayfly image ls --json | jq -r '.[].profile'";

const RM_EXAMPLES: &str = "\
Examples:
  mayfly image rm debian-git
  mayfly image rm --force debian-git    also if a VM needs it, or if it is not there";

/// Build, import, list and delete the images VMs boot
///
/// An image is built from Debian packages, once for each profile; 'create' and 'run' build a missing
/// one by themselves. Or it is imported from what was packed elsewhere, such as a container's image.
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
    #[command(after_help = BUILD_EXAMPLES)]
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

    Import(import::Args),

    /// List images, with the lengths of their files and what those take on the disk
    ///
    /// Files are sparse, and images share their kernels: what is on the disk is less, and may be counted
    /// twice. With --json each file's digest is there, too.
    #[command(after_help = LS_EXAMPLES)]
    Ls,

    /// Delete the image of a profile
    ///
    /// Refuses while there are VMs that were made from it. Its templates go with it, and of an imported
    /// image the profile.
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// The profile whose image to delete
        #[arg(value_name = "PROFILE", add = ArgValueCompleter::new(candidates::images))]
        profile: ProfileName,

        /// Delete it even if VMs need it to start again; succeed also where there is none
        #[arg(short, long)]
        force: bool,
    },

    Prune(prune::Args),
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    match args.action {
        Action::Build { profile, force } => build(app, &profile, force),
        Action::Import(args) => import::serve(app, args),
        Action::Ls => list(app),
        Action::Rm { profile, force } => remove(app, &profile, force),
        Action::Prune(args) => prune::serve(app, &args),
    }
}

fn build(app: &AppContext, profile: &str, force: bool) -> Result<u8> {
    let manager = VmManager::open(app.settings.clone())?;
    let mut signals = PendingSignals::block()?;
    let info = building(app, &mut signals, |progress| {
        lifecycle::build_image(&manager, profile, force, progress)
    })?;
    let usage = manager.images()?.usage(&info.profile)?;
    app.printer.done(&ImageView::new(&info, usage), profile)?;
    Ok(0)
}

fn list(app: &AppContext) -> Result<u8> {
    let manager = VmManager::open_to_read(app.settings.clone())?;
    let images = manager.list_images()?;
    match app.printer.style.json {
        true => {
            let views: Vec<_> =
                images.iter().map(|(info, usage)| ImageView::new(info, *usage)).collect();
            app.printer.json(&views)?;
        }
        false => app.printer.data(&images_table(&images))?,
    }
    Ok(0)
}

fn remove(app: &AppContext, profile: &ProfileName, force: bool) -> Result<u8> {
    let manager = VmManager::open(app.settings.clone())?;
    let deleted = lifecycle::remove_image(&manager, profile, force)?;
    app.printer.done(&json!({ "profile": profile, "deleted": deleted }), profile.as_str())?;
    Ok(0)
}
