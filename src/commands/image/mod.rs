//! `mayfly image build`, `pull`, `import`, `ls`, `rm` and `prune`.

mod import;
mod own_profile;
mod prune;
mod pull;

use anyhow::Result;
use clap::Subcommand;
use clap_complete::ArgValueCompleter;

use crate::commands::AppContext;
use crate::commands::build_progress::with_build_progress;
use crate::commands::completions::candidates;
use crate::commands::each::{DoneForm, each_done};
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, RemovalReport, RemovedThing};
use crate::model::ProfileName;
use crate::output::{ImageView, RemovalView, images_table};

/// Build, pull, import, list and delete the images VMs boot
///
/// An image is built from Debian packages, once for each profile; 'create' and 'run' build a missing image
/// themselves. It can also be a container image, pulled from a registry or imported from a file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly image build                  debian-base
  mayfly image build debian-build
  mayfly image pull alpine            from docker.io
  mayfly image import alpine.tar      written by 'skopeo copy' or 'podman save'
  mayfly image ls
  mayfly image rm debian-git
  mayfly image prune --dry-run        show what nothing needs")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the image of a profile, unless it is up to date
    ///
    /// Installs Debian packages into a directory and makes file systems from it. This needs the network
    /// and takes half a minute or more. An image is out of date when its profile names other packages;
    /// newer versions of the packages are installed with --force. The image of a profile with the key 'image'
    /// is pulled instead.
    #[command(after_help = "\
Examples:
  mayfly image build                         debian-base
  mayfly image build --force debian-build    rebuild it with the newest packages")]
    Build {
        /// Profile whose image to build
        #[arg(
            value_name = "PROFILE", default_value = "debian-base",
            add = ArgValueCompleter::new(candidates::profiles)
        )]
        profile: String,

        /// Rebuild the image even if it is up to date, with the newest packages
        #[arg(short, long)]
        force: bool,
    },

    Pull(pull::Args),

    Import(import::Args),

    /// List images and the disk space they take
    ///
    /// Files are sparse, so they take less space than their length. Images share kernels, so some space may
    /// be counted twice. With --json, the length and digest of each file are shown, too.
    #[command(after_help = "\
Examples:
  mayfly image ls
  mayfly image ls --json | jq -r '.[].profile'")]
    Ls,

    /// Delete images
    ///
    /// Refused while VMs made from an image exist. Its templates are deleted, too, and the profile of an
    /// imported image.
    #[command(after_help = "\
Examples:
  mayfly image rm debian-git debian-build
  mayfly image rm --force debian-git    even if a VM needs it")]
    Rm {
        /// Profiles whose images to delete
        #[arg(required = true, value_name = "PROFILE", add = ArgValueCompleter::new(candidates::images))]
        images: Vec<ProfileName>,

        /// Delete it even if VMs need it to start again; succeed even if it does not exist
        #[arg(short, long)]
        force: bool,
    },

    Prune(prune::Args),
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    match args.action {
        Action::Build { profile, force } => build(app, &profile, force),
        Action::Pull(args) => pull::serve(app, args),
        Action::Import(args) => import::serve(app, args),
        Action::Ls => list(app),
        Action::Rm { images, force } => remove(app, &images, force),
        Action::Prune(args) => prune::serve(app, &args),
    }
}

fn build(app: &AppContext, profile: &str, force: bool) -> Result<u8> {
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let info = with_build_progress(app, &mut signals, |progress| {
        lifecycle::build_image(&manager, profile, force, progress)
    })?;
    let usage = manager.images()?.usage(&info.profile)?;
    app.printer.done(&ImageView::new(&info, usage), profile)?;
    Ok(0)
}

fn list(app: &AppContext) -> Result<u8> {
    let manager = app.open_to_read()?;
    let images = manager.list_images()?;
    let views: Vec<_> = images.iter().map(|(info, usage)| ImageView::new(info, *usage)).collect();
    let names = images.iter().map(|(info, _)| info.profile.as_str());
    app.printer.list(&views, names, &images_table(app.printer.layout(), &images))?;
    Ok(0)
}

fn remove(app: &AppContext, profiles: &[ProfileName], force: bool) -> Result<u8> {
    let manager = app.open()?;
    let named = profiles.iter().map(|profile| (profile.as_str(), profile));
    each_done(app, DoneForm::Lines, named, |profile, _| {
        let deleted = lifecycle::remove_image(&manager, profile, force)?;
        let removed = RemovalReport::explicit(RemovedThing::Image(profile.clone()), deleted);
        Ok(Some(RemovalView::from(&removed)))
    })
}
