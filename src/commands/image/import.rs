//! `mayfly image import`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap_complete::ArgValueCompleter;

use super::own_profile::OwnProfileFlags;
use crate::commands::AppContext;
use crate::commands::build_progress::with_build_progress;
use crate::commands::completions::candidates;
use crate::host::signals::PendingSignals;
use crate::import::NamedSource;
use crate::lifecycle::{self, ImportRequest};
use crate::model::{ProfileName, Refusal, RootfsFormat};
use crate::output::ImageView;

/// Make an image and a profile from a root file system or container image
///
/// SOURCE is a root file system, as a directory or a tar archive, or a container image: an OCI archive or
/// directory, as written by 'skopeo copy' and 'podman save --format oci-archive', or an archive written by
/// 'docker save' or 'podman save'. Archives may be compressed with gzip, xz or zstd; '-' is standard input.
///
/// VMs of the new profile boot the kernel of another profile and have the files of SOURCE. The variables,
/// user and working directory of a container image apply to every command in these VMs, and 'run' runs its
/// entrypoint and command. Prints the name of the profile. An image imported earlier under this name is
/// replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podman save --format oci-archive --output alpine.tar alpine
  mayfly image import alpine.tar
  mayfly run --profile alpine -- cat /etc/alpine-release
  podman save my-app | mayfly image import - my-app
  mayfly run --profile my-app                        its own command
  mayfly image import ./rootfs minimal --mem 256M    a directory")]
pub struct Args {
    /// A directory, an archive, or '-'
    #[arg(value_name = "SOURCE", value_hint = clap::ValueHint::AnyPath)]
    source: PathBuf,

    /// Name of the profile; by default derived from the name of SOURCE
    #[arg(value_name = "NAME")]
    name: Option<ProfileName>,

    /// Read SOURCE as FORM, if it is ambiguous
    #[arg(long, value_name = "FORM", value_enum)]
    from: Option<RootfsFormat>,

    /// Import the image named REF, if the archive holds several
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,

    /// Boot the kernel of PROFILE, whose image is built if it is missing
    #[arg(
        long, value_name = "PROFILE", default_value = "debian-base",
        add = ArgValueCompleter::new(candidates::profiles)
    )]
    kernel_of: String,

    #[command(flatten)]
    own: OwnProfileFlags,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let is_stdin = args.source.as_os_str() == "-";
    let name = match args.name {
        Some(name) => name,
        None if is_stdin => {
            bail!(
                Refusal::usage("an image from standard input needs a name")
                    .hint("name it: mayfly image import - NAME")
            );
        }
        None => default_name(&args.source)?,
    };
    let named = NamedSource {
        path: if is_stdin { None } else { Some(std::path::absolute(&args.source)?) },
        title: None,
        form: args.from,
        reference: args.reference,
        bounds: args.own.bounds(),
    };
    let request = ImportRequest {
        named,
        name,
        defaults: args.own.defaults(),
        disk_mib: args.own.disk_mib(),
        kernel_of: args.kernel_of,
        force: args.own.force,
    };
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let info = with_build_progress(app, &mut signals, |progress| {
        lifecycle::import_image(&manager, request, progress)
    })?;
    let usage = manager.images()?.usage(&info.profile)?;
    app.printer.made(&ImageView::new(&info, usage), info.profile.as_str())?;
    Ok(0)
}

/// A name for the profile: the last part of a path in lower case, without an archive's extensions, and with
/// hyphens for all characters but letters and digits.
fn default_name(source: &Path) -> Result<ProfileName, Refusal> {
    let named = source.canonicalize().ok();
    let last = named.as_deref().unwrap_or(source).file_name().unwrap_or_default();
    let last = last.to_string_lossy().to_lowercase();
    let endings = ["gz", "xz", "zst", "zstd", "tgz", "txz", "tzst", "tar", "oci", "docker"];
    let mut stem = last.as_str();
    while let Some((rest, ending)) = stem.rsplit_once('.')
        && endings.contains(&ending)
        && !rest.is_empty()
    {
        stem = rest;
    }
    ProfileName::of_words(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_called_like_its_archive() {
        for (source, name) in [
            ("alpine.tar", "alpine"),
            ("/tmp/x/My_App-1.2.oci.tar.gz", "my-app-1-2"),
            ("rootfs", "rootfs"),
            (".tar", "tar"),
            ("a..b.tgz", "a-b"),
        ] {
            assert_eq!(default_name(Path::new(source)).unwrap().as_str(), name, "{source}");
        }
    }
}
