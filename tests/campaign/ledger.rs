//! The VMs whose creation or deletion mayfly has acknowledged.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// Sets that only grow, so that the order in which ends of commands are noted does not matter.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
    doubtful: BTreeSet<String>,
}

impl Ledger {
    /// A `create` has printed this VM.
    pub fn created(&self, id: &str) {
        assert!(self.0.lock().unwrap().created.insert(id.into()), "{id} was created twice");
    }

    /// A command that deletes this VM has succeeded.
    pub fn deleted(&self, id: &str) {
        self.0.lock().unwrap().deleted.insert(id.into());
    }

    /// A command that deletes this VM has failed or was killed.
    pub fn doubt(&self, id: &str) {
        self.0.lock().unwrap().doubtful.insert(id.into());
    }

    /// The VMs that must exist.
    pub fn promised(&self) -> Vec<String> {
        let sets = self.0.lock().unwrap();
        let unsure = |id: &&String| !sets.deleted.contains(*id) && !sets.doubtful.contains(*id);
        sets.created.iter().filter(unsure).cloned().collect()
    }

    /// The VMs that must not exist.
    pub fn gone(&self) -> Vec<String> {
        self.0.lock().unwrap().deleted.iter().cloned().collect()
    }

    /// VMs that exist or may exist.
    pub fn candidates(&self) -> Vec<String> {
        let sets = self.0.lock().unwrap();
        sets.created.difference(&sets.deleted).cloned().collect()
    }
}
