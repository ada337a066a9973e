//! The answer of `exec --json` and `run --json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::error_report::ErrorReport;
use super::removal_view::RemovalView;
use crate::guest::CommandOutcome;
use crate::lifecycle::{PhaseTimings, RemovalReport};
use crate::model::{Accelerator, BackendKind, Isolation, VmManifest};

/// A command that has ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExecAnswer<'a> {
    vm_id: String,
    /// As it could be typed in a shell.
    command: String,
    /// The command's own bytes, up to 4 MiB.
    stdout: String,
    /// The same. What mayfly has to say is in `error`.
    stderr: String,
    /// `utf-8`, or `base64` if the output is not UTF-8.
    stdout_encoding: &'static str,
    stderr_encoding: &'static str,
    /// Whether there was more output.
    truncated: bool,
    /// The command's own, or the one that stands for its end.
    exit_code: u8,
    duration_ms: u64,
    /// What ended the command: `exit`, `signal`, `timeout`, `ttl` (its VM expired) or `stopped` (another command
    /// stopped or deleted its VM); `null` if it did not start.
    ended_by: Option<&'static str>,
    /// What mayfly has to say about the end: that the command timed out, was not found, and so on.
    error: Option<ErrorReport>,
    backend: BackendKind,
    accelerator: Accelerator,
    isolation: Isolation,
    /// The deletion of the VM; `null` if it is kept.
    cleanup: Option<RemovalView>,
    /// How long each phase took.
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, f64>"))]
    timings_ms: &'a PhaseTimings,
}

impl<'a> ExecAnswer<'a> {
    /// The answer for an outcome whose output was captured.
    pub fn new(
        vm: &VmManifest,
        command: String,
        outcome: CommandOutcome,
        error: Option<ErrorReport>,
        cleanup: Option<&RemovalReport>,
        timings_ms: &'a PhaseTimings,
    ) -> Self {
        let truncated = outcome.stdout.truncated || outcome.stderr.truncated;
        let (stdout, stdout_encoding) = encode(outcome.stdout.bytes);
        let (stderr, stderr_encoding) = encode(outcome.stderr.bytes);
        ExecAnswer {
            vm_id: vm.vm_id.to_string(),
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
            backend: vm.backend,
            accelerator: vm.accelerator,
            isolation: vm.isolation(),
            cleanup: cleanup.map(RemovalView::from),
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
