//! The part of an import that runs inside the sandbox: mayfly, executed again, with the source as its
//! standard input and an order in its working directory.
//!
//! It reads untrusted archives, so it can do little but create files: it has no other descriptors, bounded memory, no
//! network, few capabilities, and reaches nothing but its directory and the source (see
//! [`crate::host::confinement`]).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, setrlimit};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::blobs::{self, BlobLocation};
use super::budget::{UnpackBounds, UnpackBudget};
use super::copy_dir;
use super::digest_reader::{BlobDigest, DigestReader};
use super::fixups::{self, TreeExtent};
use super::late_times::LateTimes;
use super::layer::{self, WhiteoutNames};
use super::rootfs::RootfsTree;
use crate::archive::decompress;
use crate::host::confinement::FileReach;
use crate::model::{Refusal, RefusalKind};
use crate::sys::descriptor;

/// The hidden argument that starts it.
pub const ARGUMENT: &str = "__unpack";

/// Names of files in the working directory.
pub const ORDER: &str = "order.json";
pub const REPORT: &str = "report.json";
pub const TREE: &str = "tree";
/// A script for debugfs, see [`super::late_times`].
pub const LATE_TIMES: &str = "late-times";

/// Bytes of address space. The largest window of a compression takes 128 MiB, names of files the rest.
const MEMORY: u64 = 2 << 30;

/// What to do, within which limits.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnpackOrder {
    pub step: UnpackStep,
    pub bounds: UnpackBounds,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpackStep {
    /// Unpack standard input into a new tree.
    Unpack { contents: SourceContents, workdir: Option<String> },
    /// Copy the directory on standard input into the tree.
    Add { at: PathBuf },
}

/// What the source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceContents {
    /// A directory.
    Directory,
    /// An archive of a root file system, compressed or not.
    Archive,
    /// Layers, lowest first, in an archive or a directory.
    Layers(Vec<SourceLayer>),
}

/// A layer, and how it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLayer {
    pub place: BlobLocation,
    /// Of the packed layer.
    pub digest: Option<BlobDigest>,
    /// Bytes of the packed layer.
    pub size: Option<u64>,
    /// Digest of the uncompressed layer.
    pub diff_id: Option<BlobDigest>,
}

/// The outcome.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpackReport {
    Done(UnpackResult),
    Refused(Refusal),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UnpackResult {
    /// Of the whole tree.
    pub extent: TreeExtent,
    pub loads_modules: bool,
    /// Device files that were left out.
    pub devices: u64,
    /// Names of extended attributes that were lost.
    pub lost: Vec<String>,
}

/// Carries out the order in the working directory, and writes a report there.
///
/// # Errors
/// If there is no order or no report can be written. All others are in the report.
pub fn serve() -> Result<()> {
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).context("cannot limit the memory")?;
    // Modes are those of the archive.
    rustix::process::umask(rustix::fs::Mode::empty());
    let order: UnpackOrder =
        serde_json::from_slice(&fs::read(ORDER).context("cannot read the order")?)?;
    let source = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let own = std::env::current_dir().context("cannot find the working directory")?;
    let stdin = descriptor::path(&io::stdin());
    let is_directory = source.metadata()?.is_dir();
    let readable: &[&Path] = if is_directory { &[&stdin] } else { &[] };
    FileReach::new(readable, &[&own]).confine()?;
    let report = match carry_out(order, &source) {
        Ok(done) => UnpackReport::Done(done),
        Err(error) => UnpackReport::Refused(refusal(&error)),
    };
    fs::write(REPORT, serde_json::to_vec(&report)?).context("cannot write the report")
}

fn carry_out(order: UnpackOrder, source: &File) -> Result<UnpackResult> {
    let mut tree = RootfsTree::open(Path::new(TREE), UnpackBudget::new(order.bounds))?;
    match order.step {
        UnpackStep::Unpack { contents, workdir } => {
            unpack(&contents, source, &mut tree)?;
            tree.machines.check()?;
            fixups::fit(&mut tree, workdir.as_deref())?;
        }
        UnpackStep::Add { at } => {
            let from = OwnedFd::from(source.try_clone()?);
            copy_dir::copy(&from, &at, &HashSet::new(), &mut tree)?;
        }
    }
    let mut late = LateTimes::default();
    let extent = fixups::measure(&tree, &mut late)?;
    fs::write(LATE_TIMES, late.into_script()).context("cannot write the times of files")?;
    // The next step makes a file system of that size.
    super::budget::check_room(tree.root(), extent.bytes)?;
    Ok(UnpackResult {
        extent,
        loads_modules: fixups::loads_modules(&tree)?,
        devices: tree.devices,
        lost: tree.lost.iter().map(|name| name.to_string_lossy().into_owned()).collect(),
    })
}

fn unpack(contents: &SourceContents, source: &File, tree: &mut RootfsTree) -> Result<()> {
    match contents {
        SourceContents::Directory => {
            let from = OwnedFd::from(source.try_clone()?);
            // An import of / contains the new tree and its parents.
            let ours = [".", "..", "../.."].map(|place| {
                let opened = openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                opened.context("cannot open a directory").and_then(copy_dir::identity)
            });
            let not = ours.into_iter().collect::<Result<HashSet<_>>>()?;
            copy_dir::copy(&from, Path::new(""), &not, tree)
        }
        SourceContents::Archive => {
            let size = source.metadata()?.len();
            let (input, _) = blobs::open(source, &BlobLocation::Range { offset: 0, size })?;
            let (_, mut archive) = decompress(input)?;
            tree.progress.doing = "unpacking files".into();
            layer::apply(&mut archive, WhiteoutNames::Plain, tree)
        }
        SourceContents::Layers(layers) => {
            for (number, layer) in layers.iter().enumerate() {
                let name = format!("layer {} of {}", number + 1, layers.len());
                tree.progress.doing = format!("unpacking {name}");
                apply(layer, source, tree).context(name)?;
            }
            Ok(())
        }
    }
}

fn apply(layer: &SourceLayer, source: &File, tree: &mut RootfsTree) -> Result<()> {
    let (input, size) = blobs::open(source, &layer.place)?;
    if layer.size.is_some_and(|wanted| wanted != size) {
        bail!(
            Refusal::new(RefusalKind::Failure, "it does not have the declared length")
                .hint("fetch or save the image again")
        );
    }
    let mut packed = DigestReader::new(input, layer.digest.clone());
    let (compression, archive) = decompress(&mut packed)?;
    let mut archive = DigestReader::new(archive, layer.diff_id.clone());
    let applied = layer::apply(&mut archive, WhiteoutNames::Whiteouts, tree);
    // A wrong digest explains other errors, so it is reported instead of them. It covers the whole layer.
    let rest = io::copy(&mut archive, &mut io::sink());
    if applied.is_err() || rest.is_err() {
        drop(archive);
        if io::copy(&mut packed, &mut io::sink()).is_ok() {
            packed.finish("it")?;
        }
        applied?;
        rest.with_context(|| format!("cannot decompress {compression:?}"))?;
        return Ok(());
    }
    archive.finish("its content")?;
    io::copy(&mut packed, &mut io::sink())?;
    packed.finish("it")
}

/// An error with its context, as one refusal.
fn refusal(error: &anyhow::Error) -> Refusal {
    let full = error.chain().any(|cause| {
        let errno = cause.downcast_ref::<rustix::io::Errno>().copied();
        let io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        errno == Some(rustix::io::Errno::NOSPC) || io == Some(nix::libc::ENOSPC)
    });
    let inner = Refusal::find(error);
    let message = format!("{error:#}");
    let (kind, hint) = match inner {
        Some(inner) => (inner.kind, inner.hint.clone()),
        None if full => (
            RefusalKind::Host,
            Some("free some space, or keep images elsewhere: MAYFLY_ARTIFACTS_DIR".to_owned()),
        ),
        None => (RefusalKind::Usage, None),
    };
    Refusal { hint, ..Refusal::new(kind, message) }
}
