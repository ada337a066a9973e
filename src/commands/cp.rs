//! `mayfly cp`.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::build_progress::with_build_progress;
use super::completions::candidates;
use super::flags::typed_path::{typed_path, vm_path};
use crate::archive::CopyDestination;
use crate::host::named_file;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{
    self, AgentConversation, CopyIn, CopyOut, CopyPayload, CopyRoom, CopySize, CopyStore, CopyUser,
};
use crate::model::{Refusal, VmRef};
use crate::output::{CopyProgress, CopyView};

const EXAMPLES: &str = "\
Examples:
  mayfly cp notes.txt box:                     to root's home directory
  mayfly cp project box:/srv                   to /srv/project, if /srv exists
  mayfly cp --exclude-ignored . box:/srv/app   without what git ignores
  mayfly cp box:/var/log/dpkg.log .
  mayfly cp box:/srv/app/dist/. dist           only its contents
  git archive HEAD | mayfly cp - box:/srv/app  unpack a tar archive there
  mayfly cp box:/etc - | tar t                 write a tar archive";

const RULES: &str = "\
Where a copy goes, as with docker cp:
  DST is a directory        SRC is copied into it under its own name; if SRC ends in '/.',
                            only its contents are
  DST is a file             a file replaces it; a directory is an error
  DST does not exist        the copy is called DST; its parent must exist, and a file
                            cannot be copied to a DST that ends in '/'

An existing directory is added to and keeps its mode. An existing file is replaced, and so is a link to a
file or to nothing; links are never followed. A device, FIFO or socket, or a link to one, such as
/dev/stdout, is an error. Copies are first written beside DST as '.mayfly-cp-*', and moved into place when they are
complete: a copy that fails or is interrupted changes nothing. If mayfly is killed, the next copy to the
same place deletes what was left.

Into a VM, files, directories and symbolic links are copied, with their permissions and modification
times. They belong to root or to --user. Out of a VM, only files and directories are copied, with
permissions limited by umask; anything else is left out, and its name is printed. limits.copy_out_mib,
copy_out_files and copy_out_free_mib in profiles.toml limit what a VM can send.

File systems in which the kernel shows its state or devices, such as /proc, /sys and /dev, are left out when
they are below SRC. An archive on standard input may be compressed with gzip, xz or zstd.

A relative path in a VM starts in the home directory. Write './' before a local path whose first part
contains ':'.";

/// Copy files and directories into or out of a VM
///
/// One of SRC and DST is in a running VM, written VM:PATH. The other one is a local path, or '-' for a tar
/// archive on standard input or output. The VM is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{RULES}\n\n{EXAMPLES}"))]
pub struct Args {
    /// If SRC itself is a symbolic link, copy its target
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Leave out what git ignores
    ///
    /// In a repository, the files that git tracks or does not ignore are copied, as listed by 'git ls-files
    /// --cached --others --exclude-standard', and the .git directory. Elsewhere, files that no .gitignore
    /// matches are copied.
    #[arg(long)]
    exclude_ignored: bool,

    /// Copy as USER of the VM instead of root
    ///
    /// A name or a number, optionally followed by ':GROUP'. Copies into the VM belong to this user.
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    /// What to copy: VM:PATH, a local path, or '-'
    #[arg(value_name = "SRC", add = ArgValueCompleter::new(candidates::copy_endpoints))]
    source: OsString,

    /// Where to copy it: VM:PATH, a local path, or '-'
    #[arg(value_name = "DST", add = ArgValueCompleter::new(candidates::copy_endpoints))]
    destination: OsString,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let direction = CopyDirection::of(&args)?;
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let id = manager.resolve(direction.vm())?;
    let from = args.source.display().to_string();
    let to = args.destination.display().to_string();
    let progress = CopyProgress::new(app.printer, &from);
    let copied =
        AgentConversation::begin(&manager, &id, &mut signals).and_then(|mut conversation| {
            let limits = &manager.settings.profiles()?.limits;
            let session = &mut conversation.session;
            let copied = match direction {
                CopyDirection::In(_, copy) => {
                    let room = CopyRoom::of(&manager, &conversation.record.manifest);
                    with_build_progress(app, &mut signals, |progress| {
                        let mut size = CopySize::default();
                        size.add(&copy, progress)?;
                        Ok(size.check(room, "create")?)
                    })
                    .and_then(|()| lifecycle::copy_in(session, copy, &mut signals, &progress))
                }
                CopyDirection::Out(_, copy) => {
                    lifecycle::copy_out(session, copy, limits, &mut signals, &progress).map(Some)
                }
            };
            conversation.end();
            copied.map_err(named_file::refusal)
        });
    drop(progress);
    let tally = copied.with_context(|| format!("cannot copy {from} to {to}"))?;
    if let Some(tally) = &tally {
        app.printer.skipped(tally);
    }
    if app.printer.style.json {
        let printed = app.printer.json(&CopyView::new(&id, &from, &to, tally.as_ref()));
        printed.with_context(|| format!("{from} was copied, but the result cannot be printed"))?;
    } else {
        app.printer.note_on_terminal(&format!("mayfly: copied {from} to {to}"));
    }
    Ok(0)
}

/// A copy into or out of a VM.
enum CopyDirection {
    In(VmRef, CopyIn),
    Out(VmRef, CopyOut),
}

impl CopyDirection {
    /// The copy that the arguments ask for.
    ///
    /// # Errors
    /// `Usage`, or a local path that is not accessible; no VM has been looked up yet.
    fn of(args: &Args) -> Result<CopyDirection> {
        let run_as = CopyUser { user: args.user.clone(), cwd: None };
        let follow = args.follow_link;
        match (vm_path(&args.source), vm_path(&args.destination)) {
            (Some(_), Some(_)) => Err(Refusal::usage("both SRC and DST are in a VM")
                .hint("copy through this host: mayfly cp A:PATH - | mayfly cp - B:PATH")
                .into()),
            (None, None) => {
                let (from, to) = (&args.source, &args.destination);
                Err(Refusal::usage(format!("neither {from:?} nor {to:?} is in a VM"))
                    .hint("write a path in a VM as VM:PATH")
                    .into())
            }
            (Some((vm, path)), None) => {
                if args.exclude_ignored {
                    bail!(Refusal::usage("--exclude-ignored needs a local SRC"));
                }
                let destination = typed_path(&args.destination, "DST")?;
                let to = if args.destination == "-" {
                    CopyStore::Archive(archive_stream(std::io::stdout(), "write an archive to")?)
                } else {
                    CopyStore::Files(
                        CopyDestination::look(destination).map_err(named_file::refusal)?,
                    )
                };
                Ok(CopyDirection::Out(vm, CopyOut { path, follow, to, run_as }))
            }
            (None, Some((vm, to))) => {
                let exclude_ignored = args.exclude_ignored;
                let payload = if args.source != "-" {
                    let path = existing_path(&args.source)?;
                    CopyPayload::Tree { follow, contents: false, exclude_ignored, path }
                } else if follow || exclude_ignored {
                    bail!(
                        Refusal::usage("an archive is copied as it is")
                            .hint("leave out --follow-link and --exclude-ignored")
                    );
                } else {
                    CopyPayload::Archive(archive_stream(std::io::stdin(), "read an archive from")?)
                };
                Ok(CopyDirection::In(vm, CopyIn { payload, to, parents: false, run_as }))
            }
        }
    }

    fn vm(&self) -> &VmRef {
        match self {
            CopyDirection::In(vm, _) | CopyDirection::Out(vm, _) => vm,
        }
    }
}

fn existing_path(typed: &OsStr) -> Result<PathBuf> {
    let path = typed_path(typed, "SRC")?;
    let found = path.symlink_metadata().with_context(|| format!("cannot copy {path:?}"));
    found.map_err(named_file::refusal)?;
    Ok(path.to_owned())
}

/// A standard stream for an archive, unless it is a terminal.
fn archive_stream(stream: impl AsFd + IsTerminal, verb: &str) -> Result<OwnedFd> {
    if stream.is_terminal() {
        let message = format!("will not {verb} a terminal");
        bail!(Refusal::usage(message).hint("redirect it to a file or a pipe"));
    }
    stream.as_fd().try_clone_to_owned().context("cannot use a standard stream")
}
