//! `mayfly image import`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap_complete::ArgValueCompleter;

use crate::commands::AppContext;
use crate::commands::build_progress::with_build_progress;
use crate::commands::completions::candidates;
use crate::host::signals::PendingSignals;
use crate::import::{NamedSource, UnpackBounds};
use crate::lifecycle::{self, ImportRequest};
use crate::model::{MemMib, ProfileName, Refusal, RootfsFormat, TimeSpan};
use crate::output::ImageView;
use crate::settings::ImportedDefaults;

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

    /// Give its VMs N virtual CPUs
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,

    /// Give its VMs SIZE of memory, such as 512M or 2G
    #[arg(long, value_name = "SIZE")]
    mem: Option<MemMib>,

    /// Let its VMs live for at most DURATION, such as 90s or 1h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<TimeSpan>,

    /// Give its VMs disks of SIZE; unwritten parts take no space
    #[arg(long, value_name = "SIZE")]
    disk: Option<MemMib>,

    /// Unpack at most SIZE
    #[arg(long, value_name = "SIZE", default_value = "64G")]
    max_size: MemMib,

    /// Replace an image of this name even if VMs need it to start again
    #[arg(short, long)]
    force: bool,
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
        None => default_name(&args.source).parse()?,
    };
    let named = NamedSource {
        path: if is_stdin { None } else { Some(std::path::absolute(&args.source)?) },
        form: args.from,
        reference: args.reference,
        bounds: UnpackBounds { bytes: u64::from(args.max_size.0) << 20, ..UnpackBounds::default() },
    };
    let defaults = ImportedDefaults {
        description: String::new(),
        vcpu_count: args.vcpus,
        mem_mib: args.mem.map(|mem| mem.0),
        ttl_seconds: args.ttl.map(TimeSpan::seconds),
    };
    let request = ImportRequest {
        named,
        name,
        defaults,
        disk_mib: args.disk.map(|disk| disk.0),
        kernel_of: args.kernel_of,
        force: args.force,
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
fn default_name(source: &Path) -> String {
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
    let words = stem.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
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
            assert_eq!(default_name(Path::new(source)), name, "{source}");
        }
    }
}
