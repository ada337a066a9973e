//! The source of an import, recognized by its content and not by its name.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::blobs::{PackedFiles, is_empty_directory};
use super::budget::{UnpackBounds, UnpackBudget};
use super::cancellable::CancellableInput;
use super::form;
use super::select::{self, SelectedImage};
use super::unpack::SourceContents;
use crate::archive::{CompressionFormat, UnsupportedFormat, decompress};
use crate::host::named_file;
use crate::host::tool::ToolInterrupted;
use crate::image::ProgressSink;
use crate::model::{CommandDefaults, Refusal, RootfsFormat};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 17;

/// The source that a user named.
#[derive(Debug, Clone, Default)]
pub struct NamedSource {
    /// `None` is standard input.
    pub path: Option<PathBuf>,
    /// Its name in messages, if not the path.
    pub title: Option<String>,
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
        match (&self.title, &self.path) {
            (Some(title), _) => title.clone(),
            (None, Some(path)) => path.display().to_string(),
            (None, None) => "standard input".into(),
        }
    }

    /// Opens the source, and inspects it unless it is a stream.
    ///
    /// # Errors
    /// `Usage` for what cannot be imported, `Host` for what would not run here, and [`ToolInterrupted`].
    pub fn open(&self, progress: &dyn ProgressSink) -> Result<ImportSource> {
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
                return self.explained(self.look(input, progress), progress);
            }
            return Ok(ImportSource::Stream(input));
        };
        // Otherwise, opening a FIFO would wait until a program writes to it.
        let flags = nix::libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(|error| {
            let cannot = format!("cannot open {}", path.display());
            named_file::refusal(anyhow::Error::new(error).context(cannot))
        })?;
        self.explained(self.look(file, progress), progress)
    }

    /// Adds what was imported to an error. After a cancellation, that is the error.
    fn explained<T>(&self, result: Result<T>, progress: &dyn ProgressSink) -> Result<T> {
        if result.is_err() && progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        result.with_context(|| format!("cannot import {}", self.shown()))
    }

    fn look(&self, file: File, progress: &dyn ProgressSink) -> Result<ImportSource> {
        let about = file.metadata()?;
        let plan = if about.is_dir() {
            self.look_at_directory(file)?
        } else if !about.is_file() {
            return Ok(ImportSource::Stream(file));
        } else if self.form == Some(RootfsFormat::Dir) {
            bail!(Refusal::usage("it is a file, not a directory"));
        } else if self.form == Some(RootfsFormat::Tar) {
            self.plan_files(file, RootfsFormat::Tar)?
        } else if compression_of(&file)? == CompressionFormat::None {
            self.look_at_archive(file, progress)?
        } else {
            // The files in it can only be found once it is decompressed.
            return Ok(ImportSource::Stream(file));
        };
        Ok(ImportSource::Planned(Box::new(plan)))
    }

    fn look_at_archive(&self, file: File, progress: &dyn ProgressSink) -> Result<ImportPlan> {
        let Some(packed) = PackedFiles::archive(file.try_clone()?, progress)? else {
            if let Some(form) = self.form {
                bail!(Refusal::usage(format!("it has too many files for an image ({form})")));
            }
            return self.plan_files(file, RootfsFormat::Tar);
        };
        let found = if self.form.is_some() { self.form } else { form::of(&packed)? };
        match found {
            Some(form) => self.plan_image(packed, form),
            None => self.plan_files(file, RootfsFormat::Tar),
        }
    }

    fn look_at_directory(&self, directory: File) -> Result<ImportPlan> {
        if is_empty_directory(&directory)? {
            bail!(Refusal::usage("the directory is empty"));
        }
        let packed = PackedFiles::Directory(OwnedFd::from(directory.try_clone()?));
        let found = if self.form.is_some() { self.form } else { form::of(&packed)? };
        match found {
            None | Some(RootfsFormat::Dir) => self.plan_files(directory, RootfsFormat::Dir),
            Some(RootfsFormat::Tar) => {
                bail!(Refusal::usage("it is a directory, not an archive (tar)"))
            }
            Some(form) => self.plan_image(packed, form),
        }
    }

    fn plan_files(&self, file: File, form: RootfsFormat) -> Result<ImportPlan> {
        if self.reference.is_some() {
            let message = "it consists of files, not of images with names";
            bail!(Refusal::usage(message).hint("omit --ref"))
        }
        let contents = match form {
            RootfsFormat::Dir => SourceContents::Directory,
            _ => SourceContents::Archive,
        };
        let command = CommandDefaults::default();
        Ok(ImportPlan { file, contents, form, reference: None, digest: None, command })
    }

    fn plan_image(&self, packed: PackedFiles, form: RootfsFormat) -> Result<ImportPlan> {
        let wanted = self.reference.as_deref();
        let SelectedImage { reference, digest, layers, command } = match form {
            RootfsFormat::Docker => select::from_docker(&packed, wanted)?,
            _ => select::from_layout(&packed, wanted)?,
        };
        let (file, contents) = (packed.into_file(), SourceContents::Layers(layers));
        let digest = Some(digest.to_string());
        Ok(ImportPlan { file, contents, form, reference, digest, command })
    }

    /// The plan of an opened source. A stream is read to its end, and stored in `work` without its compression.
    ///
    /// # Errors
    /// Those of [`NamedSource::open`].
    pub fn prepare(
        &self,
        source: ImportSource,
        work: &Path,
        progress: &dyn ProgressSink,
    ) -> Result<ImportPlan> {
        let input = match source {
            ImportSource::Planned(plan) => return Ok(*plan),
            ImportSource::Stream(input) => input,
        };
        let mut input = CancellableInput::new(input, progress);
        let stored = decompress(&mut input)
            .map_err(refuse_format)
            .and_then(|(_, archive)| store(archive, &work.join("archive"), self.bounds, progress))
            .and_then(|stored| self.look(stored, progress));
        match self.explained(stored, progress)? {
            ImportSource::Planned(plan) => Ok(*plan),
            ImportSource::Stream(_) => bail!(Refusal::usage("it is compressed twice")),
        }
    }
}

/// How a file is compressed.
fn compression_of(mut file: &File) -> Result<CompressionFormat> {
    let (compression, _) = decompress(file).map_err(refuse_format)?;
    file.rewind()?;
    Ok(compression)
}

/// The error for a format that is not supported.
fn refuse_format(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<UnsupportedFormat>() {
        Some(format) => Refusal::usage(format.to_string()).hint(format.hint()).into(),
        None => error,
    }
}

/// Writes everything to a new file.
fn store(
    mut input: impl Read,
    path: &Path,
    bounds: UnpackBounds,
    progress: &dyn ProgressSink,
) -> Result<File> {
    let mut budget = UnpackBudget::new(bounds);
    let mut file =
        File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut buffer = vec![0; CHUNK];
    // Little input can be gigabytes of output.
    while !progress.cancelled() {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read it"),
        };
        budget.take(0, count as u64)?;
        file.write_all(&buffer[..count]).context("cannot store it")?;
        budget.wrote(count as u64, &file)?;
    }
    if progress.cancelled() {
        return Err(ToolInterrupted.into());
    }
    file.rewind()?;
    Ok(file)
}
