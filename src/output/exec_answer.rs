//! The answer of `exec --json` and `run --json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::escape::escape;
use crate::guest::{CommandExit, CommandOutcome};
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
    pub timed_out: bool,
    /// What ended the command, if it did not end by itself.
    pub ended_by: Option<&'static str>,
    pub cleanup: Option<RemovalReport>,
    pub timings_ms: &'a PhaseTimings,
}

impl<'a> ExecAnswer<'a> {
    /// The answer for an outcome whose output was captured.
    pub fn new(
        vm_id: &'a VmId,
        command: String,
        outcome: CommandOutcome,
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
            timed_out: outcome.exit == CommandExit::TimedOut,
            ended_by: outcome.exit.ended_by(),
            cleanup,
            timings_ms,
        }
    }

    /// Adds a line from mayfly itself to the end of the command's standard error.
    pub fn append_to_stderr(&mut self, line: &str) {
        if self.stderr_encoding == "utf-8" {
            if !self.stderr.is_empty() && !self.stderr.ends_with('\n') {
                self.stderr.push('\n');
            }
            self.stderr.push_str(&escape(line));
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
