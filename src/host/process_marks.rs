//! Recognising processes of VMs that no record names.
//!
//! Two variables in the environment mark a process: the VM's directory, which people can read, and a proof
//! that mayfly put it there. Any process can have the first, even one of another user.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::clock;
use super::process::{check_proc, here};
use crate::model::ProcessId;
use crate::sys::process::{ProcessStat, pids, read_of};
use crate::sys::random;

/// The variable with the VM's directory.
const DIRECTORY: &str = "MAYFLY_VM_DIR";

/// The variable with the proof.
const PROOF: &str = "MAYFLY_VM_PROOF";

/// The secret from which the proofs of one state directory are made.
pub type MarkKey = [u8; 32];

/// The mark of a VM's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMark {
    directory: String,
    proof: String,
}

impl ProcessMark {
    /// For the VM with this directory.
    pub fn new(directory: &str, key: &MarkKey) -> ProcessMark {
        let digest = Sha256::new().chain_update(directory).chain_update(key).finalize();
        ProcessMark { directory: directory.to_owned(), proof: random::to_hex(&digest) }
    }

    /// The variables of the environment.
    pub fn variables(&self) -> [(String, String); 2] {
        [(DIRECTORY.into(), self.directory.clone()), (PROOF.into(), self.proof.clone())]
    }

    /// The directory in this environment, if the proof is there too.
    fn find(environment: &[u8], key: &MarkKey) -> Option<String> {
        let value = |name: &str| {
            let mut variables = environment.split(|&byte| byte == 0);
            let value = variables
                .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            str::from_utf8(value?).ok()
        };
        let mark = ProcessMark::new(value(DIRECTORY)?, key);
        (value(PROOF)? == mark.proof).then_some(mark.directory)
    }
}

/// How to recognise the processes of VMs.
#[derive(Debug, Clone)]
pub struct ProcessMarks {
    /// The key of the state directory. Without one, no process was ever marked.
    pub key: Option<MarkKey>,
    /// The root directories of jailed VMMs, by device and inode, each with the directory of its VM. Such a
    /// VMM has no variables, but cannot leave its root.
    pub roots: BTreeMap<(u64, u64), String>,
}

impl ProcessMarks {
    /// The directory of the VM that a process belongs to, if any.
    fn recognise(&self, pid: i32) -> Result<Option<String>> {
        if let Some(key) = &self.key {
            let mut environment = Vec::new();
            let path = format!("/proc/{pid}/environ");
            read_of(&path, |mut file| file.read_to_end(&mut environment))?;
            if let Some(directory) = ProcessMark::find(&environment, key) {
                return Ok(Some(directory));
            }
        }
        if self.roots.is_empty() {
            return Ok(None);
        }
        let root = fs::metadata(format!("/proc/{pid}/root"));
        Ok(root.ok().and_then(|root| self.roots.get(&(root.dev(), root.ino())).cloned()))
    }
}

/// All processes of VMs with a directory in `vms`, each with its VM's directory. Processes of other users cannot
/// be read, and are not found.
///
/// # Errors
/// /proc cannot be read. A living process must not be taken for a dead one then.
pub fn find(marks: &ProcessMarks, vms: &Path) -> Result<Vec<(ProcessId, String)>> {
    check_proc()?;
    let mut found = Vec::new();
    let (boot, here) = (clock::boot_id()?, here()?);
    for pid in pids()? {
        // The start time is read first: if the pid is reused in between, it does not match later.
        let Some(stat) = ProcessStat::read(pid)? else { continue };
        let directory = marks.recognise(pid)?;
        if let Some(directory) = directory.filter(|dir| Path::new(dir).parent() == Some(vms)) {
            let (boot_id, place) = (boot.clone(), Some(here.clone()));
            let process = ProcessId { pid, start_ticks: stat.start_ticks, boot_id, place };
            found.push((process, directory));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_with_its_own_proof_is_a_mark() {
        let (key, other) = ([7; 32], [8; 32]);
        let environment = |variables: &[(String, String)]| {
            let text = |(name, value): &(String, String)| format!("{name}={value}\0");
            variables.iter().map(text).collect::<String>().into_bytes()
        };
        let [directory, proof] = ProcessMark::new("/s/vms/a", &key).variables();
        let before = ("NOT_MAYFLY_VM_DIR".to_owned(), "/s/vms/b".to_owned());
        let whole = environment(&[before, proof.clone(), directory.clone()]);
        assert_eq!(ProcessMark::find(&whole, &key).as_deref(), Some("/s/vms/a"));
        assert_eq!(ProcessMark::find(&whole, &other), None);
        let elsewhere = (directory.0.clone(), "/s/vms/b".to_owned());
        for forged in [vec![directory], vec![proof.clone()], vec![elsewhere, proof], vec![]] {
            assert_eq!(ProcessMark::find(&environment(&forged), &key), None, "{forged:?}");
        }
    }
}
