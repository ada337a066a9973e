//! Downloading what is missing of an image, into a layout that can be imported.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::access_error;
use super::blob_store::{BlobFate, BlobStore};
use super::resolve::ResolvedImage;
use super::skopeo;
use crate::host::directory;
use crate::image::{PHASES, ProgressSink};
use crate::import::budget::check_room;
use crate::import::digest_reader::BlobDigest;
use crate::model::{Refusal, RefusalKind};

/// The layout in the build directory.
const LAYOUT: &str = "pulled";

/// Where skopeo writes what is not complete, and its own index.
const UNFINISHED: &str = "skopeo";

/// How many more bytes than the manifest names may be downloaded: skopeo writes documents of its own.
const SLACK: u64 = 16 << 20;

/// Makes a layout of the image in `work`, with what `store` has and with downloads, which `store` then keeps. Returns the
/// directory.
///
/// # Errors
/// `Host` if a download fails or there is no room, and [`crate::host::tool::ToolInterrupted`].
pub fn fetch(
    image: &ResolvedImage,
    store: &BlobStore,
    work: &Path,
    progress: &mut dyn ProgressSink,
) -> Result<PathBuf> {
    let layout = work.join(LAYOUT);
    for (digest, text) in &image.documents {
        // A damaged one makes room for this.
        let _ = store.document(digest);
        let path = layout.join(digest.blob());
        fs::create_dir_all(path.parent().unwrap_or(&layout)).context("cannot make a directory")?;
        fs::write(path, text).context("cannot write a manifest")?;
    }
    let reference = &image.reference;
    progress.phase(&format!("pulling {reference}"), 1, PHASES);
    let mut missing = Vec::new();
    for (digest, size) in &image.blobs {
        let into = layout.join(digest.blob());
        fs::create_dir_all(into.parent().unwrap_or(&layout)).context("cannot make a directory")?;
        match store.take(digest, &into, progress)? {
            BlobFate::Found => continue,
            BlobFate::Absent => {}
            BlobFate::Damaged => {
                progress.note(&format!("{digest} was damaged on the disk, and is fetched again"));
            }
        }
        missing.push((into, *size));
    }
    if !missing.is_empty() {
        download(image, &missing, &layout, work, progress)?;
    }
    let manifest = image.manifest();
    write_index(&layout, manifest)?;
    store.keep(&layout, &image.digests())?;
    Ok(layout)
}

/// Runs skopeo for the `missing` blobs, which have these sizes.
fn download(
    image: &ResolvedImage,
    missing: &[(PathBuf, u64)],
    layout: &Path,
    work: &Path,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    let total = missing.iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size));
    check_room(fs::File::open(work)?, total)?;
    let unfinished = work.join(UNFINISHED);
    directory::create_new(&unfinished)?;
    let source = image.reference.with_digest(image.manifest());
    let run = skopeo::copy(&source, &layout.join("blobs"), &unfinished)?;
    let progress = RefCell::new(progress);
    let (is_too_large, shown) = (Cell::new(false), Cell::new(None));
    // Asked several times a second.
    let cancelled = || {
        let done = missing.iter().map(|(path, _)| size_of(path)).sum::<u64>();
        let done = done + directory::usage(&unfinished).apparent_bytes;
        is_too_large.set(done > total.saturating_add(SLACK));
        let megabytes = done.min(total) / 1_000_000;
        if shown.replace(Some(megabytes)) != Some(megabytes) {
            progress.borrow_mut().detail(&format!("{megabytes} of {} MB", total / 1_000_000));
        }
        is_too_large.get() || progress.borrow().cancelled()
    };
    let result = run.watch(&mut |_| {}, &cancelled);
    if is_too_large.get() && !progress.borrow().cancelled() {
        let message = format!(
            "cannot pull {}: the registry sends more than the {total} bytes that the manifest names",
            image.reference
        );
        bail!(Refusal::new(RefusalKind::Failure, message));
    }
    result.map_err(|error| access_error::explain(error, &image.reference))
}

fn size_of(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |about| about.len())
}

/// Writes what makes a directory with blobs an OCI layout.
fn write_index(layout: &Path, manifest: &BlobDigest) -> Result<()> {
    let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": manifest.to_string() }] });
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    for (name, content) in [("index.json", index), ("oci-layout", version)] {
        fs::write(layout.join(name), content.to_string()).context("cannot write an index")?;
    }
    Ok(())
}
