//! The source of an import, recognized by its content and not by its name.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::blobs::PackedFiles;
use super::budget::{UnpackBounds, UnpackBudget};
use super::compression::{CompressionFormat, unpacked};
use super::path;
use super::select::{self, SelectedImage};
use super::unpack::SourceContents;
use crate::archive::MemberReader;
use crate::host::tool::ToolInterrupted;
use crate::image::ProgressSink;
use crate::model::{CommandDefaults, Refusal, RootfsFormat};
use crate::sys::poll::{self, PollFlags};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 17;

/// How often reading a silent input is interrupted to see whether the import was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// The source that a user named.
#[derive(Debug, Clone, Default)]
pub struct NamedSource {
    /// `None` is standard input.
    pub path: Option<PathBuf>,
    /// `None` to detect it.
    pub form: Option<RootfsFormat>,
    /// The name of an image in an archive.
    pub reference: Option<String>,
    pub bounds: UnpackBounds,
}

/// What will be unpacked.
#[derive(Debug)]
pub struct ImportPlan {
    pub file: File,
    pub contents: SourceContents,
    pub form: RootfsFormat,
    pub reference: Option<String>,
    pub digest: Option<String>,
    pub command: CommandDefaults,
}

/// A source that was opened.
#[derive(Debug)]
pub enum ImportSource {
    /// One whose contents are known.
    Planned(Box<ImportPlan>),
    /// One that must be read to its end first.
    Stream(File),
}

impl NamedSource {
    /// Its name in messages.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard input".into(),
        }
    }

    /// Opens the source, and inspects it unless it is a stream.
    ///
    /// # Errors
    /// `Usage` for what cannot be imported, `Host` for what would not run here.
    pub fn open(&self) -> Result<ImportSource> {
        let Some(path) = &self.path else {
            let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            if input.is_terminal() {
                bail!(
                    Refusal::usage("standard input is a terminal, not an archive")
                        .hint("pipe an archive in, or name a file")
                );
            }
            // A file that the shell opened, at its start, can be inspected like a named one.
            if input.metadata()?.is_file() && (&input).stream_position()? == 0 {
                return self.look(input).context("cannot import standard input");
            }
            return Ok(ImportSource::Stream(input));
        };
        let file = File::open(path)
            .map_err(|error| Refusal::usage(format!("cannot open {}: {error}", path.display())))?;
        self.look(file).with_context(|| format!("cannot import {}", path.display()))
    }

    fn look(&self, file: File) -> Result<ImportSource> {
        let about = file.metadata()?;
        if about.is_dir() {
            return self.look_at_directory(file).map(|plan| ImportSource::Planned(Box::new(plan)));
        }
        if !about.is_file() {
            return Ok(ImportSource::Stream(file));
        }
        let Some(form) = self.form_of(&file)? else {
            // The files in it can only be found once it is decompressed.
            return Ok(ImportSource::Stream(file));
        };
        self.plan(file, form).map(|plan| ImportSource::Planned(Box::new(plan)))
    }

    /// The format of an archive; `None` for an image's that is compressed.
    fn form_of(&self, file: &File) -> Result<Option<RootfsFormat>> {
        let mut reader = file;
        let (compression, mut archive) = unpacked(&mut reader)?;
        let first = match self.form {
            Some(RootfsFormat::Dir) => {
                bail!(Refusal::usage("it is a file, not a directory"))
            }
            Some(form) => form,
            None => guess(&mut archive)?,
        };
        drop(archive);
        reader.rewind()?;
        Ok(match first {
            RootfsFormat::Tar => Some(RootfsFormat::Tar),
            _ if compression != CompressionFormat::None => None,
            form if self.form.is_some() => Some(form),
            _ => {
                // Archives of newer Docker versions are both; the layout says more.
                let packed = PackedFiles::archive(file.try_clone()?)?;
                let holds = |name| packed.has(name);
                Some(if holds("index.json") && holds("oci-layout") {
                    RootfsFormat::Oci
                } else if holds("manifest.json") {
                    RootfsFormat::Docker
                } else {
                    RootfsFormat::Tar
                })
            }
        })
    }

    fn look_at_directory(&self, directory: File) -> Result<ImportPlan> {
        let packed = PackedFiles::Directory(OwnedFd::from(directory.try_clone()?));
        let is_layout = packed.has("oci-layout") && packed.has("index.json");
        match self.form {
            None if is_layout => self.plan(directory, RootfsFormat::Oci),
            None | Some(RootfsFormat::Dir) => self.plan(directory, RootfsFormat::Dir),
            Some(RootfsFormat::Oci) => self.plan(directory, RootfsFormat::Oci),
            Some(form) => {
                bail!(Refusal::usage(format!("it is a directory, not an archive ({form})")))
            }
        }
    }

    fn plan(&self, file: File, form: RootfsFormat) -> Result<ImportPlan> {
        let contents = match form {
            RootfsFormat::Dir | RootfsFormat::Tar if self.reference.is_some() => {
                let message = "it consists of files, not of images with names";
                bail!(Refusal::usage(message).hint("omit --ref"))
            }
            RootfsFormat::Dir => SourceContents::Directory,
            RootfsFormat::Tar => SourceContents::Archive,
            RootfsFormat::Oci | RootfsFormat::Docker => {
                let packed = if file.metadata()?.is_dir() {
                    PackedFiles::Directory(OwnedFd::from(file))
                } else {
                    PackedFiles::archive(file)?
                };
                let wanted = self.reference.as_deref();
                let SelectedImage { reference, digest, layers, command } = match form {
                    RootfsFormat::Docker => select::from_docker(&packed, wanted)?,
                    _ => select::from_layout(&packed, wanted)?,
                };
                let (file, contents) = (packed.into_file(), SourceContents::Layers(layers));
                let digest = Some(digest.to_string());
                return Ok(ImportPlan { file, contents, form, reference, digest, command });
            }
        };
        let command = CommandDefaults::default();
        Ok(ImportPlan { file, contents, form, reference: None, digest: None, command })
    }

    /// The plan of an opened source. A stream is read to its end and stored in `work`.
    ///
    /// # Errors
    /// Those of [`NamedSource::open`], and [`ToolInterrupted`].
    pub fn prepare(
        &self,
        source: ImportSource,
        work: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<ImportPlan> {
        let mut source = source;
        // Once for a pipe, and once for the compressed archive of an image.
        for (name, unpack) in [("received", false), ("unpacked", true)] {
            let input = match source {
                ImportSource::Planned(plan) => return Ok(*plan),
                ImportSource::Stream(input) => input,
            };
            let is_pipe = !input.metadata()?.is_file();
            let kept = match (is_pipe, unpack) {
                (true, false) => {
                    store(Cancellable { input, progress }, &work.join(name), self.bounds)
                }
                (false, true) => unpacked(Cancellable { input, progress })
                    .and_then(|(_, archive)| store(archive, &work.join(name), self.bounds)),
                _ => {
                    source = ImportSource::Stream(input);
                    continue;
                }
            };
            let looked = kept.and_then(|kept| self.look(kept));
            source = match looked {
                Err(error) if error.is::<ToolInterrupted>() => return Err(error),
                looked => looked.with_context(|| format!("cannot import {}", self.shown()))?,
            };
        }
        match source {
            ImportSource::Planned(plan) => Ok(*plan),
            ImportSource::Stream(_) => {
                bail!(Refusal::usage("it is compressed twice"))
            }
        }
    }
}

/// The format of an archive, by the name of its first file: archives of images begin with one that no root
/// file system has.
fn guess(archive: &mut dyn Read) -> Result<RootfsFormat> {
    let not_tar = |error: anyhow::Error| {
        Refusal::usage(format!("it is not an archive of a root file system: {error:#}"))
            .hint("see 'mayfly image import --help' for what can be imported")
    };
    let mut members = MemberReader::new(archive);
    let name = loop {
        let Some(first) = members.next_member().map_err(not_tar)? else {
            bail!(Refusal::usage("the archive is empty"));
        };
        let name = path::place(&first.name)?;
        // Some archives begin with their root directory.
        if !name.as_os_str().is_empty() {
            break name;
        }
    };
    let top = name.iter().next().and_then(|top| top.to_str()).unwrap_or_default();
    let digits = top.split('.').next().unwrap_or_default();
    let is_digest = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let known = ["oci-layout", "index.json", "blobs", "manifest.json", "repositories"];
    Ok(if known.contains(&top) || is_digest { RootfsFormat::Oci } else { RootfsFormat::Tar })
}

/// Writes everything to a new file.
fn store(mut input: impl Read, path: &Path, bounds: UnpackBounds) -> Result<File> {
    let mut budget = UnpackBudget::new(bounds);
    let mut file =
        File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<ToolInterrupted>()) => {
                return Err(ToolInterrupted.into());
            }
            Err(error) => return Err(error).context("cannot read it"),
        };
        budget.take(0, count as u64)?;
        file.write_all(&buffer[..count]).context("cannot store it")?;
        budget.wrote(count as u64, &file)?;
    }
    file.rewind()?;
    Ok(file)
}

/// An input whose reading ends when the import is cancelled.
struct Cancellable<'a> {
    input: File,
    progress: &'a mut dyn ProgressSink,
}

impl Read for Cancellable<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.progress.cancelled() {
                return Err(io::Error::other(ToolInterrupted));
            }
            let tick = Instant::now() + TICK;
            if poll::wait_for(self.input.as_fd(), PollFlags::POLLIN, Some(tick))? {
                return self.input.read(into);
            }
        }
    }
}
