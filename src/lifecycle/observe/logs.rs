//! `logs`: what a VM, its VMM and its network helper printed.

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
    /// What the guest's kernel, its agent and its programs printed on the console. For the mock
    /// backend, this is the same as [`LogKind::Vmm`], because the agent is the VMM.
    Console,
    /// What the VMM itself printed.
    Vmm,
    /// What the network helper denied, a line of JSON each, and what it said at its end.
    Network,
}

/// The whole content of a log; empty if the VM was never started. An expired VM still has a log.
pub fn read_log(manager: &VmManager, id: &VmId, log: LogKind) -> Result<Vec<u8>> {
    let path = path(manager, manager.registry.read()?.get(id)?, log);
    LogReader::open(&path)?.as_mut().map_or(Ok(Vec::new()), read_rest)
}

/// A log that is read while it is written.
#[derive(Debug)]
pub struct LogFollower<'a> {
    manager: &'a VmManager,
    id: &'a VmId,
    path: PathBuf,
    watch: FileWatch,
    reader: Option<LogReader>,
}

impl<'a> LogFollower<'a> {
    /// Starts to follow a log. Also returns what is in it now.
    pub fn begin(
        manager: &'a VmManager,
        id: &'a VmId,
        log: LogKind,
    ) -> Result<(LogFollower<'a>, Vec<u8>)> {
        let path = path(manager, manager.registry.read()?.get(id)?, log);
        let watch = watch_registry(manager)?;
        watch.arrivals(&manager.paths(id).dir)?;
        let mut follower = LogFollower { manager, id, path, watch, reader: None };
        let initial = follower.open()?.map_or(Ok(Vec::new()), read_rest)?;
        Ok((follower, initial))
    }

    /// Passes new output to `write` as long as the VM is running, starting or stopping, `write` returns
    /// true, and the reader of `output` is there.
    pub fn follow(
        mut self,
        output: Option<BorrowedFd<'_>>,
        mut write: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        loop {
            // Checked before reading, so that what a VM wrote before its end is read.
            let activity = VmActivity::of(self.manager, self.id)?;
            if let Some(reader) = self.open()? {
                while let Some(piece) = next_piece(reader)? {
                    if !write(&piece)? {
                        return Ok(());
                    }
                }
            }
            if let VmActivity::Idle(_) | VmActivity::Gone = activity {
                return Ok(());
            }
            if activity.wait(&self.watch, output, None)? == WakeReason::OutputClosed {
                return Ok(());
            }
        }
    }

    /// The log, once it exists. It is watched before it is read, so that nothing is missed.
    fn open(&mut self) -> Result<Option<&mut LogReader>> {
        if self.reader.is_none() {
            self.reader = LogReader::open(&self.path)?;
            self.watch.writes(&self.path)?;
        }
        Ok(self.reader.as_mut())
    }
}

fn read_rest(reader: &mut LogReader) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = next_piece(reader)? {
        all.extend(piece);
    }
    Ok(all)
}

fn next_piece(reader: &mut LogReader) -> Result<Option<Vec<u8>>> {
    Ok(Some(reader.read()?).filter(|piece| !piece.is_empty()))
}

fn path(manager: &VmManager, record: &VmRecord, log: LogKind) -> PathBuf {
    let paths = manager.paths(record.id());
    match log {
        LogKind::Console => traces(record.manifest.backend).console(&paths),
        LogKind::Vmm => paths.vmm_log(),
        LogKind::Network => paths.network_log(),
    }
}
