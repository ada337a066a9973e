//! Guests that wait because the host's disk is full: saying so, and letting them go on when there is room again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Result;

use super::manager::VmManager;
use crate::backend::traces;
use crate::host::thread;
use crate::model::{Refusal, RefusalKind, VmPhase, VmRecord};
use crate::sys::file_system;

/// With less room than this, in bytes, a guest may be waiting. A guest that still waits with more goes on as soon as
/// a command is attached to it.
const LITTLE_ROOM: u64 = 64 << 20;

/// How often an attached command looks at its VM.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a VM may be waiting. This is quick, asking its VMM is not.
pub fn is_room_scarce(manager: &VmManager) -> bool {
    let free = file_system::free_at(&manager.settings.directories.state);
    free.is_ok_and(|free| free < LITTLE_ROOM)
}

/// Why a started VM waits, if it does.
pub fn why_waiting(manager: &VmManager, record: &VmRecord) -> Option<String> {
    let VmPhase::Started { .. } = record.state else { return None };
    let waits = traces(record.manifest.backend).is_waiting(&manager.paths(record.id()));
    explain(waits, &manager.settings.directories.state)
}

/// As [`why_waiting`], after letting it go on if there is room.
pub fn go_on(manager: &VmManager, record: &VmRecord) -> Option<String> {
    let VmPhase::Started { .. } = record.state else { return None };
    let waits = traces(record.manifest.backend).go_on(&manager.paths(record.id()));
    explain(waits, &manager.settings.directories.state)
}

/// Refuses to talk to a guest that waits, which would not answer.
///
/// # Errors
/// `Host`: it waits.
pub fn refuse_waiting(manager: &VmManager, record: &VmRecord) -> Result<(), Refusal> {
    let waits = is_room_scarce(manager).then(|| go_on(manager, record)).flatten();
    waits.map_or(Ok(()), |why| {
        let message = format!("VM {} waits: {why}", record.manifest.display_name());
        Err(Refusal::new(RefusalKind::Host, message)
            .hint("make room, then try again: it goes on where it was"))
    })
}

fn explain(waits: Result<bool>, state: &Path) -> Option<String> {
    // A VMM that does not answer is found by other means.
    waits.unwrap_or(false).then(|| {
        let free = file_system::free_at(state).unwrap_or(0) / 1_000_000;
        format!("the host's disk is full ({free} MB free in {})", state.display())
    })
}

/// Looks at a VM while a command is attached to it.
#[derive(Debug)]
pub struct FullDiskWatch {
    /// Whether the guest waits.
    pub waits: Arc<AtomicBool>,
    _stop: Sender<()>,
}

impl FullDiskWatch {
    /// Watches until it is dropped. Without a thread for it, the VM is not watched.
    pub fn begin(manager: &VmManager, record: &VmRecord) -> FullDiskWatch {
        let (stop, stopped) = channel();
        let waits = Arc::new(AtomicBool::new(false));
        let watch = FullDiskWatch { waits: waits.clone(), _stop: stop };
        let backend = record.manifest.backend;
        if !traces(backend).pauses_guests() {
            return watch;
        }
        let (paths, say) = (manager.paths(record.id()), manager.say);
        let state = manager.settings.directories.state.clone();
        let name = record.manifest.display_name().to_string();
        let _ = thread::start_detached(move || {
            let mut said = false;
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let why = explain(traces(backend).go_on(&paths), &state);
                waits.store(why.is_some(), Ordering::Relaxed);
                if let Some(why) = why.filter(|_| !said) {
                    say(&format!("mayfly: VM {name} waits: {why}"));
                    said = true;
                }
            }
        });
        watch
    }
}
