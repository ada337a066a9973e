//! What was fetched from registries: each blob once, in a file named after its digest, for as long as an image needs it.
//!
//! There is no lock. A download uses links of its own to the files, and each file is checked when it is used, so nothing
//! depends on their being there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::tool::ToolInterrupted;
use crate::host::{directory, input, sparse};
use crate::image::ProgressSink;
use crate::import::digest_reader::{BlobDigest, DigestReader};
use crate::model::layout::BLOBS;
use crate::sys::file_system::if_exists;

/// The algorithms of digests, which have a directory each.
const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// The blobs of one artifacts directory.
#[derive(Debug)]
pub struct BlobStore {
    artifacts: PathBuf,
}

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// With its algorithm.
    pub digest: String,
    pub path: PathBuf,
    pub bytes: u64,
}

/// What became of a blob that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobFate {
    Found,
    Absent,
    /// It had another digest, and was deleted.
    Damaged,
}

impl BlobStore {
    /// Creates nothing.
    pub fn new(artifacts: &Path) -> BlobStore {
        BlobStore { artifacts: artifacts.to_owned() }
    }

    fn path(&self, digest: &BlobDigest) -> PathBuf {
        self.artifacts.join(digest.blob())
    }

    /// An index or manifest; `None` if it is not there. A damaged one is deleted.
    pub fn document(&self, digest: &BlobDigest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let text = input::read_regular(&path).ok()?;
        if digest.check(&text, "it").is_err() {
            let _ = fs::remove_file(path);
            return None;
        }
        Some(text)
    }

    /// Puts a link to a blob at `into` if it has its digest.
    ///
    /// # Errors
    /// [`ToolInterrupted`], and those of reading and linking.
    pub fn take(
        &self,
        digest: &BlobDigest,
        into: &Path,
        progress: &dyn ProgressSink,
    ) -> Result<BlobFate> {
        let path = self.path(digest);
        let cannot = || format!("cannot read {}", path.display());
        // What is checked is what is used, even if the name is given to another file.
        if if_exists(fs::hard_link(&path, into)).is_ok_and(|linked| linked.is_none()) {
            return Ok(BlobFate::Absent);
        }
        if !into.exists() {
            sparse::clone_file(&path, into)?;
        }
        let file = File::open(into).with_context(cannot)?;
        let mut reader = DigestReader::new(file, Some(digest.clone()));
        let mut buffer = vec![0; 1 << 17];
        while reader.read(&mut buffer).with_context(cannot)? > 0 {
            if progress.cancelled() {
                return Err(ToolInterrupted.into());
            }
        }
        if reader.finish("it").is_ok() {
            return Ok(BlobFate::Found);
        }
        for wrong in [into, &path] {
            if_exists(fs::remove_file(wrong)).with_context(cannot)?;
        }
        Ok(BlobFate::Damaged)
    }

    /// Keeps the blobs with these digests of a layout.
    ///
    /// # Errors
    /// Those of creating directories and links.
    pub fn keep(&self, layout: &Path, digests: &[BlobDigest]) -> Result<()> {
        directory::ensure_private(&self.artifacts.join(BLOBS))?;
        for algorithm in ALGORITHMS {
            directory::ensure_private(&self.artifacts.join(BLOBS).join(algorithm))?;
        }
        for digest in digests {
            let (from, to) = (layout.join(digest.blob()), self.path(digest));
            // It may be there already. Without links, the next pull downloads it again.
            let _ = fs::hard_link(&from, &to);
        }
        Ok(())
    }

    /// All blobs. What has another name than a digest is left out.
    ///
    /// # Errors
    /// Those of reading directories.
    pub fn list(&self) -> Result<Vec<StoredBlob>> {
        let mut all = Vec::new();
        for algorithm in ALGORITHMS {
            let directory = self.artifacts.join(BLOBS).join(algorithm);
            if !directory.exists() {
                continue;
            }
            for name in directory::names(&directory)? {
                let digest = format!("{algorithm}:{name}");
                let path = directory.join(name);
                if digest.parse::<BlobDigest>().is_ok() {
                    let bytes = directory::usage(&path).bytes;
                    all.push(StoredBlob { digest, path, bytes });
                }
            }
        }
        Ok(all)
    }

    /// The blobs that are not among the `needed` digests.
    ///
    /// # Errors
    /// Those of [`BlobStore::list`].
    pub fn unneeded(&self, needed: &HashSet<String>) -> Result<Vec<StoredBlob>> {
        let mut all = self.list()?;
        all.retain(|blob| !needed.contains(&blob.digest));
        Ok(all)
    }
}
