//! The half of an import that works inside the sandbox: our own program, executed again, with the
//! source as its standard input and one order to carry out in its working directory.
//!
//! It reads what strangers have packed, and so can do nothing but make files: it has no other
//! descriptors, a bounded memory, and whatever it is tricked into happens beneath its directory.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use super::blobs::{self, BlobLocation};
use super::budget::{UnpackBounds, UnpackBudget};
use super::compression::unpacked;
use super::copy_dir;
use super::digest_reader::{BlobDigest, DigestReader};
use super::fixups::{self, TreeExtent};
use super::layer::{self, SkippedEntries, WhiteoutNames};
use super::rootfs::RootfsTree;
use crate::model::{Refusal, RefusalKind};

/// The hidden argument that makes our program this.
pub const ARGUMENT: &str = "__unpack";

/// Names in the working directory.
pub const ORDER: &str = "order.json";
pub const REPORT: &str = "report.json";
pub const TREE: &str = "tree";

/// Bytes of memory. The largest windows of the compressions take 128 MiB, names of files the rest.
const MEMORY: u64 = 2 << 30;

/// How often something is said.
const PERIOD: Duration = Duration::from_millis(250);

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnpackOrder {
    pub step: UnpackStep,
    pub bounds: UnpackBounds,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpackStep {
    /// Make the tree.
    Unpack { contents: SourceContents, workdir: Option<String> },
    /// Put the directory that is the standard input into the tree.
    Add { at: PathBuf },
}

/// What the source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceContents {
    /// A directory.
    Directory,
    /// An archive of the whole, compressed or not.
    Archive,
    /// Layers, lowest first, in an archive or a directory.
    Layers(Vec<SourceLayer>),
}

/// A layer and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLayer {
    pub place: BlobLocation,
    /// Of the layer as it is packed.
    pub digest: Option<BlobDigest>,
    /// Bytes of it.
    pub size: Option<u64>,
    /// Of the layer when unpacked.
    pub diff_id: Option<BlobDigest>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpackReport {
    Done(UnpackResult),
    Refused(Refusal),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UnpackResult {
    /// Of the tree as it is now.
    pub extent: TreeExtent,
    pub loads_modules: bool,
    /// Device files that were left out.
    pub devices: u64,
    /// Names of extended attributes that were lost.
    pub lost: Vec<String>,
}

/// Carries out the order in the working directory. The report is all that is said of errors.
pub fn serve() -> Result<()> {
    // Not its size: a process of 2 GiB is none of a machine's worries, one without bounds is.
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).context("cannot bound the memory")?;
    // Modes are what the archive says.
    rustix::process::umask(rustix::fs::Mode::empty());
    let order: UnpackOrder =
        serde_json::from_slice(&fs::read(ORDER).context("cannot read the order")?)?;
    let source = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let report = match carry_out(order, &source) {
        Ok(done) => UnpackReport::Done(done),
        Err(error) => UnpackReport::Refused(refusal(&error)),
    };
    fs::write(REPORT, serde_json::to_vec(&report)?).context("cannot write the report")
}

fn carry_out(order: UnpackOrder, source: &File) -> Result<UnpackResult> {
    let mut tree = RootfsTree::open(Path::new(TREE), UnpackBudget::new(order.bounds))?;
    let mut left_out = SkippedEntries::default();
    let mut voice = Voice::default();
    match order.step {
        UnpackStep::Unpack { contents, workdir } => {
            unpack(&contents, source, &mut tree, &mut left_out, &mut voice)?;
            tree.machines.check()?;
            fixups::fit(&mut tree, workdir.as_deref())?;
        }
        UnpackStep::Add { at } => {
            let from = OwnedFd::from(source.try_clone()?);
            copy_dir::copy(&from, &at, &HashSet::new(), &mut tree, &mut left_out, &mut || {
                voice.heard("copying files")
            })?;
        }
    }
    let extent = fixups::measure(&tree)?;
    // A file system as large as that comes next.
    super::budget::check_room(tree.root(), extent.bytes)?;
    Ok(UnpackResult {
        extent,
        loads_modules: fixups::loads_modules(&tree)?,
        devices: left_out.devices,
        lost: tree.lost.iter().map(|name| name.to_string_lossy().into_owned()).collect(),
    })
}

fn unpack(
    contents: &SourceContents,
    source: &File,
    tree: &mut RootfsTree,
    left_out: &mut SkippedEntries,
    voice: &mut Voice,
) -> Result<()> {
    match contents {
        SourceContents::Directory => {
            let from = OwnedFd::from(source.try_clone()?);
            // Whoever imports / has this very tree in it.
            let ours = [".", "..", "../.."].map(|place| {
                File::open(place).context("cannot open a directory").and_then(copy_dir::identity)
            });
            let not = ours.into_iter().collect::<Result<HashSet<_>>>()?;
            copy_dir::copy(&from, Path::new(""), &not, tree, left_out, &mut || {
                voice.heard("copying files")
            })
        }
        SourceContents::Archive => {
            let size = source.metadata()?.len();
            let (input, _) = blobs::open(source, &BlobLocation::Range { offset: 0, size })?;
            let (_, mut archive) = unpacked(input)?;
            let said = &mut || voice.heard("unpacking files");
            layer::apply(&mut archive, WhiteoutNames::Plain, tree, left_out, said)
        }
        SourceContents::Layers(layers) => {
            for (number, layer) in layers.iter().enumerate() {
                let name = format!("layer {} of {}", number + 1, layers.len());
                apply(layer, &name, source, tree, left_out, voice).with_context(|| name.clone())?;
            }
            Ok(())
        }
    }
}

fn apply(
    layer: &SourceLayer,
    name: &str,
    source: &File,
    tree: &mut RootfsTree,
    left_out: &mut SkippedEntries,
    voice: &mut Voice,
) -> Result<()> {
    let (input, size) = blobs::open(source, &layer.place)?;
    if layer.size.is_some_and(|wanted| wanted != size) {
        bail!(
            Refusal::new(RefusalKind::Failure, "it has not the length it should have")
                .hint("fetch or save the image again")
        );
    }
    let mut packed = DigestReader::new(input, layer.digest.clone());
    let (compression, archive) = unpacked(&mut packed)?;
    let mut archive = DigestReader::new(archive, layer.diff_id.clone());
    let applied = layer::apply(&mut archive, WhiteoutNames::Whiteouts, tree, left_out, &mut || {
        voice.heard(&format!("unpacking {name}"));
    });
    // Damage explains whatever came of it, and ends after what is read of an archive.
    let rest = io::copy(&mut archive, &mut io::sink());
    if applied.is_err() || rest.is_err() {
        drop(archive);
        if io::copy(&mut packed, &mut io::sink()).is_ok() {
            packed.finish("it")?;
        }
        applied?;
        rest.with_context(|| format!("cannot unpack {compression:?}"))?;
        return Ok(());
    }
    archive.finish("its content")?;
    io::copy(&mut packed, &mut io::sink())?;
    packed.finish("it")
}

/// Says what is going on, now and then.
#[derive(Default)]
struct Voice {
    last: Option<(Instant, u64)>,
    entries: u64,
}

impl Voice {
    fn heard(&mut self, doing: &str) {
        self.entries += 1;
        // A clock for each entry would cost as much as a small file.
        if !self.entries.is_multiple_of(32) {
            return;
        }
        if self.last.is_none_or(|(at, _)| at.elapsed() >= PERIOD) {
            println!("{SPOKEN}{doing}: {} files", self.entries);
            self.last = Some((Instant::now(), self.entries));
        }
    }
}

/// Before what people shall see.
const SPOKEN: &str = "I: ";

/// What of a line is for people.
pub fn spoken(line: &str) -> Option<&str> {
    line.strip_prefix(SPOKEN)
}

/// An error with its context, as one refusal: what was wrong, where, and what to do.
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
    Refusal { kind, message, hint }
}
