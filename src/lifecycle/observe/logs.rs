//! What a VM and its VMM have said.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::Result;

use super::activity::{VmActivity, watch_registry};
use crate::backend::traces;
use crate::host::file_watch::{FileWatch, WakeReason};
use crate::host::log::LogReader;
use crate::lifecycle::manager::VmManager;
use crate::model::{VmId, VmRecord};

/// One of a VM's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// What the guest's kernel, its agent and its programs printed on the console. A VM of the mock backend
    /// has none: its agent is its VMM.
    Console,
    /// What the VMM itself printed.
    Vmm,
}

/// All that is in a log; empty if the VM was never started. A VM whose time is up still has one.
pub fn read_log(manager: &VmManager, id: &VmId, log: LogKind) -> Result<Vec<u8>> {
    let path = path(manager, manager.registry.read()?.get(id)?, log);
    Ok(match LogReader::open(&path)? {
        Some(mut reader) => rest(&mut reader)?,
        None => Vec::new(),
    })
}

/// A log that is read on as it is written.
#[derive(Debug)]
pub struct LogFollower<'a> {
    manager: &'a VmManager,
    id: &'a VmId,
    path: PathBuf,
    watch: FileWatch,
    reader: Option<LogReader>,
}

impl<'a> LogFollower<'a> {
    /// Begins to follow a log, and gives what is in it by now.
    pub fn begin(
        manager: &'a VmManager,
        id: &'a VmId,
        log: LogKind,
    ) -> Result<(LogFollower<'a>, Vec<u8>)> {
        let path = path(manager, manager.registry.read()?.get(id)?, log);
        let watch = watch_registry(manager)?;
        watch.arrivals(&manager.paths(id).dir)?;
        let mut follow = LogFollower { manager, id, path, watch, reader: None };
        let begun = follow.open()?.map_or(Ok(Vec::new()), rest)?;
        Ok((follow, begun))
    }

    /// Hands on what comes, piece by piece, for as long as the VM runs, is being started or stopped, and
    /// `hear` wants more. `output` is where it goes: when nobody reads that any more, it ends too.
    pub fn go_on(
        mut self,
        output: Option<BorrowedFd<'_>>,
        mut hear: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        loop {
            // Looked at first: what a VM wrote before its end is there afterwards.
            let course = VmActivity::of(self.manager, self.id)?;
            if let Some(reader) = self.open()? {
                loop {
                    let piece = reader.read()?;
                    if piece.is_empty() {
                        break;
                    }
                    if !hear(&piece)? {
                        return Ok(());
                    }
                }
            }
            if let VmActivity::Rests(_) | VmActivity::Gone = course {
                return Ok(());
            }
            if course.wait(&self.watch, output, None)? == WakeReason::Unheard {
                return Ok(());
            }
        }
    }

    /// The log, as soon as there is one. It is watched before it is read, so that nothing falls in between.
    fn open(&mut self) -> Result<Option<&mut LogReader>> {
        if self.reader.is_none() {
            self.reader = LogReader::open(&self.path)?;
            self.watch.writes(&self.path)?;
        }
        Ok(self.reader.as_mut())
    }
}

fn rest(reader: &mut LogReader) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = reader.read()?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(piece);
    }
}

fn path(manager: &VmManager, record: &VmRecord, log: LogKind) -> PathBuf {
    let paths = manager.paths(record.id());
    match log {
        LogKind::Console => traces(record.manifest.backend).console(&paths),
        LogKind::Vmm => paths.vmm_log(),
    }
}
