//! What shall be imported, recognized by what it is and not by its name.

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
use crate::model::{CommandDefaults, Refusal, RefusalKind, RootfsFormat};
use crate::sys::poll::{self, PollFlags};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 17;

/// How often a silent input is left to ask whether anybody still waits for it.
const TICK: Duration = Duration::from_millis(100);

/// What a user named.
#[derive(Debug, Clone, Default)]
pub struct NamedSource {
    /// `None` is standard input.
    pub path: Option<PathBuf>,
    /// `None` finds out.
    pub form: Option<RootfsFormat>,
    /// Which image of an archive.
    pub reference: Option<String>,
    pub bounds: UnpackBounds,
}

/// What is going to be unpacked.
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
    /// All is known of it that there is to know before it is unpacked.
    Planned(Box<ImportPlan>),
    /// It must be read from its start to its end first, to find anything in it.
    Stream(File),
}

impl NamedSource {
    /// As an error names it.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard input".into(),
        }
    }

    /// Opens the source and, where it can be looked into, looks.
    ///
    /// Errors: `Usage` for what cannot be imported, `Host` for what would not run here.
    pub fn open(&self) -> Result<ImportSource> {
        let Some(path) = &self.path else {
            let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            if input.is_terminal() {
                bail!(
                    Refusal::new(
                        RefusalKind::Usage,
                        "standard input is a terminal, and no archive"
                    )
                    .hint("pipe an archive in, or name a file")
                );
            }
            // A file that the shell opened is as good as a named one, from its start.
            let is_whole = input.metadata()?.is_file() && (&input).stream_position()? == 0;
            return match is_whole {
                true => self.look(input).context("cannot import standard input"),
                false => Ok(ImportSource::Stream(input)),
            };
        };
        let file = File::open(path).map_err(|error| {
            Refusal::new(RefusalKind::Usage, format!("cannot open {}: {error}", path.display()))
        })?;
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
            // Where in it something lies is known when it is unpacked.
            return Ok(ImportSource::Stream(file));
        };
        self.plan(file, form).map(|plan| ImportSource::Planned(Box::new(plan)))
    }

    /// What is in an archive; `None` for an image's that is compressed.
    fn form_of(&self, file: &File) -> Result<Option<RootfsFormat>> {
        let mut reader = file;
        let (compression, mut archive) = unpacked(&mut reader)?;
        let first = match self.form {
            Some(RootfsFormat::Dir) => {
                bail!(Refusal::new(RefusalKind::Usage, "it is a file, and no directory"))
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
                // An archive of docker's newer versions is both, and more is said in the layout.
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
        let packed = PackedFiles::directory(OwnedFd::from(directory.try_clone()?));
        let is_layout = packed.has("oci-layout") && packed.has("index.json");
        match self.form {
            None if is_layout => self.plan(directory, RootfsFormat::Oci),
            None | Some(RootfsFormat::Dir) => self.plan(directory, RootfsFormat::Dir),
            Some(RootfsFormat::Oci) => self.plan(directory, RootfsFormat::Oci),
            Some(form) => {
                bail!(Refusal::new(
                    RefusalKind::Usage,
                    format!("it is a directory, and no {form} archive")
                ))
            }
        }
    }

    fn plan(&self, file: File, form: RootfsFormat) -> Result<ImportPlan> {
        let is_directory = file.metadata()?.is_dir();
        let chosen = match form {
            RootfsFormat::Dir | RootfsFormat::Tar => {
                if self.reference.is_some() {
                    bail!(
                        Refusal::new(RefusalKind::Usage, "it is no image with a name, but files")
                            .hint("leave --ref out")
                    );
                }
                let contents =
                    if is_directory { SourceContents::Directory } else { SourceContents::Archive };
                return Ok(ImportPlan {
                    file,
                    contents,
                    form,
                    reference: None,
                    digest: None,
                    command: CommandDefaults::default(),
                });
            }
            RootfsFormat::Oci | RootfsFormat::Docker => {
                let packed = match is_directory {
                    true => PackedFiles::directory(OwnedFd::from(file)),
                    false => PackedFiles::archive(file)?,
                };
                let wanted = self.reference.as_deref();
                let chosen = match form {
                    RootfsFormat::Docker => select::from_docker(&packed, wanted)?,
                    _ => select::from_layout(&packed, wanted)?,
                };
                (chosen, packed.into_file())
            }
        };
        let (SelectedImage { reference, digest, layers, command }, file) = chosen;
        let contents = SourceContents::Layers(layers);
        let digest = Some(digest.to_string());
        Ok(ImportPlan { file, contents, form, reference, digest, command })
    }

    /// The plan of an opened source. What has to be read first is kept in `work`.
    ///
    /// Errors: those of [`NamedSource::open`], and [`ToolInterrupted`].
    pub fn settle(
        &self,
        source: ImportSource,
        work: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<ImportPlan> {
        let mut source = source;
        // Once for what comes through a pipe, once for an image's archive that is compressed.
        for (name, unpack) in [("received", false), ("unpacked", true)] {
            let input = match source {
                ImportSource::Planned(plan) => return Ok(*plan),
                ImportSource::Stream(input) => input,
            };
            let is_pipe = !input.metadata()?.is_file();
            let kept = match (is_pipe, unpack) {
                (true, false) => keep(Stoppable { input, progress }, &work.join(name), self.bounds),
                (false, true) => unpacked(Stoppable { input, progress })
                    .and_then(|(_, archive)| keep(archive, &work.join(name), self.bounds)),
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
                bail!(Refusal::new(RefusalKind::Usage, "it is compressed twice"))
            }
        }
    }
}

/// What an archive holds, by the name of its first file. An image's are written in alphabetical order,
/// or as they come, and begin with one that no system's root has.
fn guess(archive: &mut dyn Read) -> Result<RootfsFormat> {
    let not_tar = |error: anyhow::Error| {
        Refusal::new(
            RefusalKind::Usage,
            format!("it is no archive of a root file system: {error:#}"),
        )
        .hint("see 'mayfly image import --help' for what can be imported")
    };
    let mut members = MemberReader::new(archive);
    let name = loop {
        let Some(first) = members.next_member().map_err(not_tar)? else {
            bail!(Refusal::new(RefusalKind::Usage, "it is an empty archive"));
        };
        let name = path::place(&first.name)?;
        // Before everything else, some archives have the directory that they were made of.
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

/// Writes everything to a file, which has no name afterwards.
fn keep(mut input: impl Read, path: &Path, bounds: UnpackBounds) -> Result<File> {
    let mut budget = UnpackBudget::new(bounds);
    let options = || std::fs::OpenOptions::new();
    let mut file = options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
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
        budget.take_bytes(count as u64)?;
        file.write_all(&buffer[..count]).context("cannot keep it")?;
        budget.wrote(count as u64, &file)?;
    }
    file.rewind()?;
    Ok(file)
}

/// An input that may be silent for as long as it likes, or for as long as somebody waits for it.
struct Stoppable<'a> {
    input: File,
    progress: &'a mut dyn ProgressSink,
}

impl Read for Stoppable<'_> {
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
