//! The flags of `run` that copy files into and out of the VM.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use clap::{Args, ValueHint};

use super::typed_path::typed_path;
use crate::archive::{CopyDestination, own_name};
use crate::commands::AppContext;
use crate::commands::build_progress::with_build_progress;
use crate::host::named_file;
use crate::host::signals::{PendingSignals, SignalInterrupt};
use crate::lifecycle::{
    AgentConversation, CopyIn, CopyOut, CopyPayload, CopySize, CopyStore, CopyUser, DiskCopy,
    DiskCopyPlan, PhaseTimings, VmManager, copy_in, copy_out,
};
use crate::model::{CommandDefaults, Refusal};
use crate::output::CopyProgress;
use crate::protocol::{ExecRequest, WireText};

/// The weight of a copy that is as fast when it is mounted as when it is sent.
const MOUNTED_WEIGHT: u64 = 4 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub struct CopyFlags {
    /// Copy DIR into the VM, and run the command there
    ///
    /// DIR may also be a file. It becomes PATH, or keeps its name, in the home directory. Missing parents are
    /// created. The copies belong to the command's user. Repeatable: the command runs in the first directory,
    /// unless --workdir names another. Copies larger than the VM's disk are refused before it is created.
    #[arg(long, value_name = "DIR[:PATH]", value_hint = ValueHint::AnyPath)]
    copy_in: Vec<OsString>,

    /// With --copy-in: leave out what git ignores
    ///
    /// In a repository, copy the files that git tracks or does not ignore, and .git. Elsewhere, copy the
    /// files that no .gitignore matches.
    #[arg(long, requires = "copy_in")]
    exclude_ignored: bool,

    /// Afterwards, copy PATH out of the VM into DIR
    ///
    /// Also if the command failed. A relative PATH starts where the command ran. If PATH ends in '/.', only
    /// its contents are copied. DIR is created if it is missing; the default is the current directory.
    /// Repeatable. If only a copy fails, the exit code is 125.
    #[arg(long, value_name = "PATH[:DIR]")]
    copy_out: Vec<OsString>,
}

/// Copies that have been checked, before there is a VM.
#[derive(Debug)]
pub struct PreparedCopies {
    inward: Vec<(OsString, CopyIn)>,
    /// Which of them is large enough to be written to the files disk.
    on_disk: Option<(usize, DiskCopyPlan)>,
    /// Paths in the VM, and where they are copied to.
    outward: Vec<(OsString, PathBuf, CopyUser)>,
}

impl CopyFlags {
    /// Checks the copies and sets the user and working directory of `exec`: those of the flags, the first
    /// directory that is copied in, or the profile's `defaults`.
    ///
    /// # Errors
    /// `Usage`; or a local path that cannot be accessed.
    pub fn prepare(
        &self,
        exec: &mut ExecRequest,
        defaults: CommandDefaults,
    ) -> Result<PreparedCopies> {
        exec.user = exec.user.take().or(defaults.user);
        let user = exec.user.clone();
        let mut inward = Vec::new();
        for typed in &self.copy_in {
            let (path, to) = split(typed, "--copy-in")?;
            let meta = Path::new(path)
                .metadata()
                .with_context(|| format!("cannot copy {path:?} into a VM"))
                .map_err(named_file::refusal)?;
            let to = match to {
                Some(to) => to.to_owned(),
                None => name_of(path)?,
            };
            if meta.is_dir() && exec.cwd.is_none() {
                exec.cwd = Some(WireText::from(&*to));
            }
            let payload = CopyPayload::Tree {
                path: path.into(),
                follow: true,
                contents: true,
                exclude_ignored: self.exclude_ignored,
            };
            let run_as = CopyUser { user: user.clone(), cwd: None };
            let copy = CopyIn { payload, to: WireText::from(&*to), parents: true, run_as };
            inward.push((path.to_owned(), copy));
        }
        exec.cwd = exec.cwd.take().or_else(|| defaults.workdir.as_deref().map(WireText::from));
        let mut outward = Vec::new();
        for typed in &self.copy_out {
            let (path, to) = split(typed, "--copy-out")?;
            let to = PathBuf::from(to.unwrap_or(OsStr::new(".")));
            check_directory(&to)?;
            let run_as = CopyUser { user: user.clone(), cwd: exec.cwd.clone() };
            outward.push((path.to_owned(), to, run_as));
        }
        Ok(PreparedCopies { inward, on_disk: None, outward })
    }
}

impl PreparedCopies {
    /// What is copied into the VM. Also finds out which of the copies is large.
    ///
    /// # Errors
    /// A file list that git cannot make; a signal.
    pub fn measure(&mut self, app: &AppContext, signals: &mut PendingSignals) -> Result<CopySize> {
        with_build_progress(app, signals, |progress| {
            let mut size = CopySize::default();
            let mut heaviest = MOUNTED_WEIGHT;
            for (index, (path, copy)) in self.inward.iter().enumerate() {
                let (weight, bytes) = (size.weight(), size.bytes());
                size.add(copy, progress)
                    .with_context(|| format!("cannot copy {} into the VM", path.display()))?;
                let weight = size.weight() - weight;
                if weight >= heaviest
                    && let Some(plan) = DiskCopyPlan::of(copy, size.bytes() - bytes)
                {
                    (self.on_disk, heaviest) = (Some((index, plan)), weight);
                }
            }
            Ok(size)
        })
    }

    /// The copy to begin with as soon as there is a VM.
    pub fn disk_copy(&self) -> Option<DiskCopyPlan> {
        self.on_disk.as_ref().map(|(_, plan)| plan.clone())
    }

    /// Copies everything into the VM. `begun` is the copy that was begun by [`PreparedCopies::disk_copy`].
    ///
    /// # Errors
    /// The first copy that fails.
    pub fn copy_in(
        &mut self,
        app: &AppContext,
        mut begun: Option<DiskCopy>,
        conversation: &mut AgentConversation<'_>,
        signals: &mut PendingSignals,
        timings: &mut PhaseTimings,
    ) -> Result<()> {
        let on_disk = self.on_disk.as_ref().map(|(index, _)| *index);
        let any = !self.inward.is_empty();
        for (index, (path, copy)) in self.inward.drain(..).enumerate() {
            let shown = path.display().to_string();
            let progress = CopyProgress::new(app.printer, &shown);
            let session = &mut conversation.session;
            let begun = if on_disk == Some(index) { begun.take() } else { None };
            let mounted = match begun {
                Some(begun) => begun.finish(session, signals, &progress),
                None => Ok(None),
            };
            let tally = match mounted {
                Ok(None) => copy_in(session, copy, signals, &progress),
                mounted => mounted,
            };
            let tally = tally.with_context(|| format!("cannot copy {shown} into the VM"))?;
            drop(progress);
            tally.iter().for_each(|tally| app.printer.skipped(tally));
        }
        if any {
            timings.end("copy_in");
        }
        Ok(())
    }

    /// Copies everything out of the VM and returns the errors. A copy that fails does not stop the others, but
    /// a signal does.
    pub fn copy_out(
        self,
        app: &AppContext,
        manager: &VmManager,
        conversation: &mut AgentConversation<'_>,
        signals: &mut PendingSignals,
        timings: &mut PhaseTimings,
    ) -> Vec<Error> {
        let mut failed = Vec::new();
        let any = !self.outward.is_empty();
        for (path, to, run_as) in self.outward {
            let shown = path.display().to_string();
            let progress = CopyProgress::new(app.printer, &shown);
            let copied = CopyDestination::make(&to).and_then(|(destination, made)| {
                let to = CopyStore::Files(destination);
                let copy = CopyOut { path: WireText::from(&*path), follow: false, to, run_as };
                let limits = &manager.settings.profiles()?.limits;
                copy_out(&mut conversation.session, copy, limits, signals, &progress)
                    .inspect_err(|_| made.undo())
            });
            drop(progress);
            let copied = copied
                .with_context(|| format!("cannot copy {shown} out of the VM to {}", to.display()));
            match copied {
                Ok(tally) => app.printer.skipped(&tally),
                Err(error) => {
                    let stop = error.is::<SignalInterrupt>();
                    failed.push(error);
                    if stop {
                        break;
                    }
                }
            }
        }
        if any {
            timings.end("copy_out");
        }
        failed
    }
}

/// Splits at the last colon.
///
/// # Errors
/// `Usage` if one of the parts is empty.
fn split<'a>(typed: &'a OsStr, flag: &str) -> Result<(&'a OsStr, Option<&'a OsStr>), Refusal> {
    let bytes = typed.as_bytes();
    let (before, after) = match bytes.iter().rposition(|&byte| byte == b':') {
        Some(colon) => (&bytes[..colon], Some(&bytes[colon + 1..])),
        None => (bytes, None),
    };
    let what = format!("what {flag} {typed:?} copies");
    let place = format!("the destination of {flag} {typed:?}");
    let before = typed_path(OsStr::from_bytes(before), &what)?;
    let after = after.map(|after| typed_path(OsStr::from_bytes(after), &place)).transpose()?;
    Ok((before.as_os_str(), after.map(Path::as_os_str)))
}

/// The name of a file or directory, also for a path such as `.` that does not contain it.
fn name_of(path: &OsStr) -> Result<OsString> {
    let real = std::fs::canonicalize(path).with_context(|| format!("cannot access {path:?}"))?;
    let name = own_name(path).or(real.file_name()).map(OsStr::to_owned);
    name.ok_or_else(|| {
        Refusal::usage(format!("{path:?} has no name"))
            .hint("name a destination, as in '--copy-in DIR:PATH'")
            .into()
    })
}

/// Refuses a path that exists and is not a directory, or is below one that is not.
fn check_directory(path: &Path) -> Result<()> {
    let nearest = path.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        above.metadata().ok().map(|meta| (above, meta.is_dir()))
    });
    match nearest {
        Some((above, false)) => Err(Refusal::usage(format!("{above:?} is not a directory")).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_divides() {
        let parts = |typed: &'static str| {
            let (before, after) = split(OsStr::new(typed), "--flag").ok()?;
            Some((before.to_str().unwrap(), after.map(|after| after.to_str().unwrap())))
        };
        assert_eq!(parts("a"), Some(("a", None)));
        assert_eq!(parts("a:"), None);
        assert_eq!(parts("a:/b"), Some(("a", Some("/b"))));
        assert_eq!(parts("a:b:/c"), Some(("a:b", Some("/c"))));
        assert_eq!(parts(":/c"), None);
        assert_eq!(parts(""), None);
    }
}
