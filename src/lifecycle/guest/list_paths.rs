//! Listing paths in a running VM, for completion.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::backend::StreamPurpose;
use crate::guest::{CommandExit, ExecIo, OutputSink};
use crate::host::signals::PendingSignals;
use crate::host::wait::WaitLimit;
use crate::host::{clock, thread};
use crate::lifecycle::full_disk::why_waiting;
use crate::lifecycle::manager::VmManager;
use crate::model::VmRef;
use crate::protocol::{ExecProgram, ExecRequest, WireText};

/// How long a user waits for the list at most.
const LIMIT: Duration = Duration::from_secs(2);

/// The longest list, in bytes.
const LIST_LIMIT: usize = 256 * 1024;

/// Prints each path that begins with `$1`, then a zero byte. Directories end with a slash.
const SCRIPT: &str = r#"for path in "$1"*; do
    if [ -d "$path" ]; then path=$path/; elif ! [ -e "$path" ] && ! [ -L "$path" ]; then continue; fi
    printf '%s\0' "$path"
done"#;

/// The paths that begin with `typed` in a running VM, as `user` sees them, each followed by a zero byte. A relative
/// path starts where it does for copies. Changes nothing, even if the VM has expired.
///
/// # Errors
/// The VM is not running on this host or has expired, its agent does not answer in time, or the list is too long.
pub fn list_paths(
    manager: VmManager,
    vm: VmRef,
    user: Option<String>,
    typed: WireText,
) -> Result<Vec<u8>> {
    let deadline = Instant::now() + LIMIT;
    let (sender, receiver) = mpsc::channel();
    // The thread ends with this process. The agent then kills the command.
    thread::start_detached(move || {
        let _ = sender.send(ask(&manager, &vm, user, typed, deadline));
    })?;
    receiver.recv_timeout(LIMIT)?
}

fn ask(
    manager: &VmManager,
    vm: &VmRef,
    user: Option<String>,
    typed: WireText,
    deadline: Instant,
) -> Result<Vec<u8>> {
    let now = clock::now()?;
    let contents = manager.registry.read()?;
    let record = contents.get(&contents.resolve(vm)?)?.clone();
    ensure!(!record.has_expired(&now), "the VM has expired");
    let record = manager.observe(record, &now)?;
    record.running()?;
    let vmm = manager.running_vmm(&record)?;
    if let Some(why) = why_waiting(manager, &record) {
        bail!(why);
    }
    let mut wait = WaitLimit::until(deadline).watching(vmm.as_fd());
    let mut session = manager.connect(&record, StreamPurpose::Session, &mut wait)?;
    let words = ["sh", "-c", SCRIPT, "sh"].into_iter().map(WireText::from);
    let program = ExecProgram::Argv(words.chain([typed]).collect());
    let timeout_ms = Some(LIMIT.as_millis() as u64);
    let request = ExecRequest { user, timeout_ms, ..ExecRequest::of(program) };
    let capture = |limit| OutputSink::Capture { limit };
    let (_relay, mut signals) = PendingSignals::relayed()?;
    let (stdout, stderr) = (capture(LIST_LIMIT), capture(0));
    let io = ExecIo { stdin: None, stdout, stderr, signals: &mut signals };
    let outcome = session.exec(&request, io)?;
    session.hang_up();
    ensure!(outcome.exit == CommandExit::Exited(0), "the shell failed");
    ensure!(!outcome.stdout.truncated, "the list is too long");
    Ok(outcome.stdout.bytes)
}
