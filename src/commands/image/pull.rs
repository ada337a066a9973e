//! `mayfly image pull`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::own_profile::OwnProfileFlags;
use crate::commands::AppContext;
use crate::commands::build_progress::with_build_progress;
use crate::commands::completions::candidates;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, PullOutcome, PullRequest};
use crate::model::{ImageReference, ProfileName};
use crate::output::ImageView;

/// Pull a container image from a registry, or update it
///
/// REF is what docker and podman take: a name with a tag or digest, such as 'alpine:3.19' or
/// 'registry.example:5000/team/app@sha256:...'. Names without a registry are those of docker.io. skopeo
/// downloads, so credentials of 'skopeo login', 'podman login' and 'docker login' apply, and so do mirrors,
/// proxies and certificates.
///
/// Makes an image and a profile, as 'image import' does, and prints the profile's name. If the image is here,
/// pulls it again only if the registry has another one under REF. 'run --image REF' pulls a missing image
/// itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly image pull alpine
  mayfly run --profile alpine -- cat /etc/alpine-release
  mayfly image pull registry.example:5000/team/app:v2 app --mem 512M
  mayfly image pull alpine              update it")]
pub struct Args {
    /// The image: NAME, NAME:TAG or NAME@DIGEST
    #[arg(value_name = "REF", add = ArgValueCompleter::new(candidates::references))]
    reference: ImageReference,

    /// Name of the profile; by default the last part of REF's name, and the tag unless it is 'latest'
    #[arg(value_name = "NAME")]
    name: Option<ProfileName>,

    /// Boot the kernel of PROFILE, whose image is built if it is missing [default: debian-base]
    #[arg(long, value_name = "PROFILE", add = ArgValueCompleter::new(candidates::profiles))]
    kernel_of: Option<String>,

    #[command(flatten)]
    own: OwnProfileFlags,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let request = PullRequest {
        defaults: args.own.defaults(),
        disk_mib: args.own.disk_mib(),
        kernel_of: args.kernel_of,
        bounds: args.own.bounds(),
        force: args.own.force,
        ..PullRequest::new(args.reference, args.name)
    };
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let outcome = with_build_progress(app, &mut signals, |progress| {
        lifecycle::pull_image(&manager, &request, progress)
    })?;
    if matches!(outcome, PullOutcome::Current(_)) && !app.printer.style.json {
        app.printer.note(&format!("mayfly: {} is up to date", request.reference));
    }
    let info = outcome.into_info();
    let usage = manager.images()?.usage(&info.profile)?;
    app.printer.made(&ImageView::new(&info, usage), info.profile.as_str())?;
    Ok(0)
}
