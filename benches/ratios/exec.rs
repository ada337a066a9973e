//! `exec` in a running VM.

use std::time::Instant;

use anyhow::Result;
use mayfly::host::signals::PendingSignals;
use mayfly::model::layout::SESSION_PORTS;

use crate::bare;
use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::{in_turns, ms_since};
use crate::workspace::{QEMU, Workspace, timed};

/// Compares `exec -- true` with opening a session with the same agent and running the same command, without
/// a process, registry, lock or backend.
pub fn measure(
    workspace: &Workspace,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let vm = workspace.start_vm(QEMU, &[])?;
    let paths = vm.paths()?;
    let [ours, floor] = in_turns(
        options.samples,
        [&mut || timed(&mut vm.exec(&[], &["true"])), &mut || {
            let begun = Instant::now();
            // The last port, because mayfly takes the first that is free.
            let mut session = bare::open(&paths, SESSION_PORTS)?;
            bare::exec(&mut session, &["true"], signals)?;
            Ok(ms_since(begun))
        }],
    )?;
    let (name, floor_name) = ("exec -- true".into(), "bare round trip".into());
    report.add(Row { name, unit: Unit::Ms, ours, floor_name, floor, goal: Goal::Extra(5.0) });
    Ok(())
}
