//! What a VM and its VMM have said.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::Result;

use super::activity::{Course, watch_registry};
use crate::host::log::Reader;
use crate::host::watch::{Watch, Woken};
use crate::lifecycle::manager::Manager;
use crate::model::{BackendKind, VmId, VmRecord};

/// One of a VM's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// What the guest's kernel, its agent and its programs printed on the console. A VM of the mock backend
    /// has none: its agent is its VMM.
    Console,
    /// What the VMM itself printed.
    Vmm,
}

/// All that is in a log; empty if the VM was never started. A VM whose time is up still has one.
pub fn read_log(manager: &Manager, id: &VmId, log: Log) -> Result<Vec<u8>> {
    let path = path(manager, manager.registry.read()?.get(id)?, log);
    Ok(match Reader::open(&path)? {
        Some(mut reader) => rest(&mut reader)?,
        None => Vec::new(),
    })
}

/// A log that is read on as it is written.
#[derive(Debug)]
pub struct Follow<'a> {
    manager: &'a Manager,
    id: &'a VmId,
    path: PathBuf,
    watch: Watch,
    reader: Option<Reader>,
}

impl<'a> Follow<'a> {
    /// Begins to follow a log, and gives what is in it by now.
    pub fn begin(manager: &'a Manager, id: &'a VmId, log: Log) -> Result<(Follow<'a>, Vec<u8>)> {
        let path = path(manager, manager.registry.read()?.get(id)?, log);
        let watch = watch_registry(manager)?;
        watch.arrivals(&manager.paths(id).dir)?;
        let mut follow = Follow { manager, id, path, watch, reader: None };
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
            let course = Course::of(self.manager, self.id)?;
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
            if let Course::Rests(_) | Course::Gone = course {
                return Ok(());
            }
            if course.wait(&self.watch, output, None)? == Woken::Unheard {
                return Ok(());
            }
        }
    }

    /// The log, as soon as there is one. It is watched before it is read, so that nothing falls in between.
    fn open(&mut self) -> Result<Option<&mut Reader>> {
        if self.reader.is_none() {
            self.reader = Reader::open(&self.path)?;
            self.watch.writes(&self.path)?;
        }
        Ok(self.reader.as_mut())
    }
}

fn rest(reader: &mut Reader) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = reader.read()?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(piece);
    }
}

fn path(manager: &Manager, record: &VmRecord, log: Log) -> PathBuf {
    let paths = manager.paths(record.id());
    match log {
        Log::Console if record.manifest.backend != BackendKind::Mock => paths.console(),
        Log::Console | Log::Vmm => paths.vmm_log(),
    }
}
