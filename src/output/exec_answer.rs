//! The answer of `exec --json` and `run --json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::error_report::ErrorReport;
use crate::guest::CommandOutcome;
use crate::lifecycle::{PhaseTimings, RemovalReport};
use crate::model::VmId;

/// A finished command.
#[derive(Debug, Serialize)]
pub struct ExecAnswer<'a> {
    pub vm_id: &'a VmId,
    pub command: String,
    pub stdout: String,
    pub stderr: String,
    /// `utf-8`, or `base64` where the output is not UTF-8.
    pub stdout_encoding: &'static str,
    pub stderr_encoding: &'static str,
    /// Whether output was dropped because there was more than is kept.
    pub truncated: bool,
    pub exit_code: u8,
    pub duration_ms: u64,
    /// What ended the command: `exit`, `signal`, `timeout`, `ttl` (its VM expired) or `stopped` (another command
    /// stopped or deleted its VM); `null` if it did not start.
    pub ended_by: Option<&'static str>,
    /// What mayfly itself has to say about the end.
    pub error: Option<ErrorReport>,
    pub cleanup: Option<RemovalReport>,
    pub timings_ms: &'a PhaseTimings,
}

impl<'a> ExecAnswer<'a> {
    /// The answer for an outcome whose output was captured.
    pub fn new(
        vm_id: &'a VmId,
        command: String,
        outcome: CommandOutcome,
        error: Option<ErrorReport>,
        cleanup: Option<RemovalReport>,
        timings_ms: &'a PhaseTimings,
    ) -> Self {
        let truncated = outcome.stdout.truncated || outcome.stderr.truncated;
        let (stdout, stdout_encoding) = encode(outcome.stdout.bytes);
        let (stderr, stderr_encoding) = encode(outcome.stderr.bytes);
        ExecAnswer {
            vm_id,
            command,
            stdout,
            stderr,
            stdout_encoding,
            stderr_encoding,
            truncated,
            exit_code: outcome.exit.code(),
            duration_ms: outcome.duration.as_millis() as u64,
            ended_by: outcome.exit.ended_by(),
            error,
            cleanup,
            timings_ms,
        }
    }
}

/// Bytes of a guest as a JSON string, and its encoding.
pub fn encode(bytes: Vec<u8>) -> (String, &'static str) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, "utf-8"),
        Err(error) => (BASE64.encode(error.as_bytes()), "base64"),
    }
}
