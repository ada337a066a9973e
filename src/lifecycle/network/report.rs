//! How the network of a VM is doing, for those who look at the VM.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::replace::{is_lost, may_live};
use crate::host::log::LogReader;
use crate::lifecycle::manager::VmManager;
use crate::model::{NetworkReport, NetworkState, VmRecord};

/// The record with a report on its network. `record` was compared with its process.
///
/// # Errors
/// /proc cannot be read.
pub fn report_on(manager: &VmManager, mut record: VmRecord) -> Result<VmRecord> {
    if !record.manifest.network.is_none() {
        let denied = count_denied(&manager.paths(record.id()).network_log());
        record.network = NetworkReport { state: state_of(&record)?, denied };
    }
    Ok(record)
}

fn state_of(record: &VmRecord) -> Result<NetworkState> {
    if is_lost(record)? {
        return Ok(NetworkState::Lost);
    }
    let network = record.state.instance().and_then(|instance| instance.network.as_ref());
    let Some(network) = network else { return Ok(NetworkState::None) };
    Ok(if may_live(&network.process)? { NetworkState::Up } else { NetworkState::None })
}

/// The number in a line of the log, whatever else is in it.
#[derive(Deserialize)]
struct DenialCount {
    denied: u64,
}

/// How much was denied, as far as the log tells.
fn count_denied(log: &Path) -> u64 {
    let mut text = Vec::new();
    if let Ok(Some(mut reader)) = LogReader::open(log) {
        while let Ok(piece) = reader.read() {
            if piece.is_empty() {
                break;
            }
            text.extend(piece);
        }
    }
    sum_of(&text)
}

/// A helper counts from 1, and each of its lines has a larger number than the one before. So a number that is not
/// larger is of another helper.
fn sum_of(log: &[u8]) -> u64 {
    let lines = log.split(|&byte| byte == b'\n');
    let counts = lines.filter_map(|line| serde_json::from_slice::<DenialCount>(line).ok());
    let (sum, last) = counts.fold((0u64, 0), |(sum, last), DenialCount { denied }| {
        (if denied > last { sum } else { sum.saturating_add(last) }, denied)
    });
    sum.saturating_add(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_helpers_are_added_up() {
        let sum = |log: &str| sum_of(log.as_bytes());
        assert_eq!(sum(""), 0);
        assert_eq!(sum("{\"time\":1.0,\"denied\":3}\n"), 3);
        assert_eq!(sum("{\"denied\":1}\n{\"denied\":7,\"to\":\"a\"}\n{\"denied\":9}\n"), 9);
        // A second helper, and a third that denied as much as the second.
        assert_eq!(sum("{\"denied\":9}\n{\"denied\":1}\n{\"denied\":1}\n"), 11);
        // What a helper said at its end, and a line that was cut.
        assert_eq!(sum("{\"denied\":2}\nmayfly: the line broke\n{\"denied\":4}\n{\"deni"), 4);
        assert_eq!(sum(&format!("{{\"denied\":{}}}\n{{\"denied\":1}}\n", u64::MAX)), u64::MAX);
    }
}
