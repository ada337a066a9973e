//! Filling the pool: starting a VM, warming it up, and leaving it there.

use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::host::clock;
use crate::host::memory;
use crate::host::signals::PendingSignals;
use crate::host::transient_lock::TransientLock;
use crate::host::wait::WaitLimit;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::remove::remove_if_there;
use crate::lifecycle::start::{StartCaller, StartOptions, start, warm_up};
use crate::model::layout::LOCKS;
use crate::model::record::reason;
use crate::model::{MemMib, PoolKind, Refusal, RefusalKind, VmRecord};
use crate::sys::random;

/// MiB of memory that must be free after the guest of one more waiting VM has used all of its own.
const FREE_MIB: u64 = 512;

/// How often to look whether another command has filled the pool.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The end of the name of a lock's file.
pub const SUFFIX: &str = ".fill";

/// How many VMs of a kind wait.
pub fn waiting(manager: &VmManager, kind: &PoolKind) -> Result<usize> {
    let now = clock::now()?;
    let contents = manager.registry.read()?;
    let fitting = contents.vms.values().filter(|record| kind.fits(record, &now));
    let mut count = 0;
    for record in fitting {
        count += usize::from(manager.process_of(record)?.is_some());
    }
    Ok(count)
}

/// Starts a VM that `create` makes for the pool, runs a command in it, and leaves it there. It is deleted after an
/// error.
///
/// # Errors
/// Those of `create` and of [`start`]; `LimitReached` if the host is short of memory.
pub fn fill(
    manager: &VmManager,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
    create: impl FnOnce(&mut PendingSignals) -> Result<VmRecord>,
) -> Result<VmRecord> {
    let record = create(caller.signals)?;
    let id = record.id();
    let memory = check_memory(memory::available_mib(), record.manifest.mem_mib);
    let filled = memory.map_err(Into::into).and_then(|()| {
        let started = start(manager, id, options, caller)?;
        let mut session = started.booted.session;
        warm_up(&mut session, caller.signals)?;
        session.hang_up();
        manager.change_starting(id, |record| {
            record.offer()?;
            Ok(record.clone())
        })
    });
    filled.or_else(|error| {
        remove_if_there(manager, id, reason::ABANDONED)
            .with_context(|| format!("while undoing: {error:#}"))?;
        Err(error)
    })
}

/// Refuses a VM if the host has too little memory. What cannot be found out does not forbid it.
fn check_memory(available: Option<u64>, mem_mib: u32) -> Result<(), Refusal> {
    let Some(available) = available else { return Ok(()) };
    if available >= u64::from(mem_mib) + FREE_MIB {
        return Ok(());
    }
    let [wanted, kept] = [u64::from(mem_mib), FREE_MIB].map(MemMib::shown);
    let message = format!(
        "{available} MiB of memory are available, too little for another VM of {wanted} beside {kept} for the host"
    );
    Err(Refusal::new(RefusalKind::LimitReached, message)
        .hint("'mayfly pool drain' frees what waiting VMs use"))
}

/// The right to fill the pool with VMs of one kind. Dropping it gives it to the next command.
#[derive(Debug)]
pub struct FillLock(#[expect(dead_code, reason = "held until it is dropped")] TransientLock);

impl FillLock {
    /// The lock of a kind; `None` if another command has it.
    pub fn try_acquire(manager: &VmManager, kind: &PoolKind) -> Result<Option<FillLock>> {
        let digest = random::to_hex(&Sha256::digest(kind.text()));
        let locks = manager.settings.directories.state.join(LOCKS);
        let path = locks.join(format!("{}{SUFFIX}", &digest[..16]));
        Ok(TransientLock::try_acquire(&path)?.map(FillLock))
    }

    /// Waits for the lock of a kind until a signal arrives.
    pub fn acquire(
        manager: &VmManager,
        kind: &PoolKind,
        signals: &mut PendingSignals,
    ) -> Result<FillLock> {
        // Filling takes seconds for each VM, but a template may have to be made.
        let mut wait = WaitLimit::within(Duration::from_secs(600)).interruptible(signals);
        loop {
            match FillLock::try_acquire(manager, kind)? {
                Some(lock) => return Ok(lock),
                None => wait.pause(RETRY_INTERVAL, "another command that fills the pool")?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_vm_is_added_that_could_leave_the_host_too_little_memory() {
        assert_eq!(check_memory(None, 1024), Ok(()));
        assert_eq!(check_memory(Some(1024 + FREE_MIB), 1024), Ok(()));
        let refusal = check_memory(Some(1024 + FREE_MIB - 1), 1024).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::LimitReached);
        assert_eq!(
            refusal.message,
            "1535 MiB of memory are available, too little for another VM of 1G beside 512M for the host"
        );
    }
}
