//! Runs of skopeo, which knows the user's credentials, mirrors, proxies and certificates.
//!
//! Unlike the programs that read what was downloaded, it is not confined to some files: credential helpers are programs of
//! the user's, which may need any. It has a cleaned environment, none of mayfly's descriptors, and ends with mayfly.

use std::path::Path;

use anyhow::Result;

use crate::host::tool::ToolRun;
use crate::host::which::HostTool;
use crate::model::ImageReference;

pub const SKOPEO: HostTool = HostTool { program: "skopeo", package: "skopeo" };

/// How often it tries again after errors that may pass: a second later, then two, then four. A registry that cannot be
/// reached should not take long to report.
const RETRIES_OF_INSPECT: &str = "--retry-times=1";
const RETRIES_OF_COPY: &str = "--retry-times=3";

/// Variables that say where credentials, settings and certificates are, for skopeo itself and for credential helpers. None
/// of them contains a secret.
const PASSED_ON: [&str; 22] = [
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AZURE_CONFIG_DIR",
    "CLOUDSDK_CONFIG",
    "CONTAINERS_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_CONFIG",
    "GNUPGHOME",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GPG_TTY",
    "PASSWORD_STORE_DIR",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "ALL_PROXY",
];

/// A run of skopeo for linux/amd64.
fn run() -> Result<ToolRun> {
    let mut run = ToolRun::new(&SKOPEO.find()?).current_dir(Path::new("/"));
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            run = run.env(name, value);
        }
    }
    Ok(run.args(["--override-os=linux", "--override-arch=amd64"]))
}

/// A run that prints the index or manifest that the registry has under `reference`.
///
/// # Errors
/// `Host` if skopeo is not installed.
pub fn inspect(reference: &ImageReference) -> Result<ToolRun> {
    Ok(run()?.args(["inspect", RETRIES_OF_INSPECT, "--raw"]).arg(format!("docker://{reference}")))
}

/// A run that downloads the configuration and the layers of an image into `blobs`, unless they are there, and everything
/// else into `directory`. It checks the digests of what it downloads, and not of what is there.
///
/// # Errors
/// Those of [`inspect`].
pub fn copy(reference: &ImageReference, blobs: &Path, directory: &Path) -> Result<ToolRun> {
    let mut destination = std::ffi::OsString::from("oci:");
    destination.push(directory);
    destination.push(":pulled");
    let run = run()?
        .env("TMPDIR", directory.parent().unwrap_or(directory))
        .args(["copy", "--quiet", RETRIES_OF_COPY, "--dest-oci-accept-uncompressed-layers"])
        .arg("--dest-shared-blob-dir")
        .arg(blobs);
    Ok(run.arg(format!("docker://{reference}")).arg(destination))
}
