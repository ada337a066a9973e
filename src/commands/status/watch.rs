//! `mayfly status --watch`: the list as it changes.

use std::io::stdout;
use std::os::fd::AsFd;

use anyhow::Result;

use crate::commands::AppContext;
use crate::host::clock;
use crate::host::signals::{PendingSignals, SignalInterrupt};
use crate::lifecycle::{VmManager, VmWatcher};
use crate::model::{ClockReading, VmRecord};
use crate::output::{TerminalScreen, VmView, status_rows};

/// Shows what `list` returns, again and again. On a terminal, q ends this, or a signal with its exit code.
/// Elsewhere it ends when standard output has no reader, and a signal kills the process as usual.
pub fn serve(
    app: &AppContext,
    manager: &VmManager,
    list: impl Fn() -> Result<Vec<VmRecord>>,
) -> Result<u8> {
    let watcher = VmWatcher::new(manager)?;
    if app.printer.style.json {
        return stream(&watcher, list, |vms, _| app.printer.json(&views(vms)));
    }
    if TerminalScreen::is_available() {
        // Blocked before the screen is opened, so that no signal skips restoring it.
        let mut signals = PendingSignals::block()?;
        return draw(app, &watcher, list, &mut signals);
    }
    let mut is_first = true;
    stream(&watcher, list, |vms, now| {
        if !std::mem::take(&mut is_first) {
            app.printer.data("")?;
        }
        app.printer.data(&status_rows(app.printer, vms, now).join("\n"))
    })
}

fn draw(
    app: &AppContext,
    watcher: &VmWatcher,
    list: impl Fn() -> Result<Vec<VmRecord>>,
    signals: &mut PendingSignals,
) -> Result<u8> {
    let mut screen = TerminalScreen::open()?;
    loop {
        screen.draw(&status_rows(app.printer, &list()?, &clock::now()?))?;
        let others = [screen.inputs(), vec![signals.as_fd()]].concat();
        let has_reader = watcher.wait(&others, stdout().as_fd())?;
        if let Some(signal) = signals.take() {
            return Ok(SignalInterrupt(signal).code());
        }
        if !has_reader || screen.handle_events()? {
            return Ok(0);
        }
    }
}

fn stream(
    watcher: &VmWatcher,
    list: impl Fn() -> Result<Vec<VmRecord>>,
    mut print: impl FnMut(&[VmRecord], &ClockReading) -> Result<()>,
) -> Result<u8> {
    let mut printed: Option<(Vec<VmRecord>, Vec<bool>)> = None;
    loop {
        let (vms, now) = (list()?, clock::now()?);
        let expired: Vec<bool> = vms.iter().map(|vm| vm.has_expired(&now)).collect();
        let is_unchanged = printed
            .as_ref()
            .is_some_and(|(old, ended)| views(old) == views(&vms) && *ended == expired);
        if !is_unchanged {
            print(&vms, &now)?;
            printed = Some((vms, expired));
        }
        if !watcher.wait(&[], stdout().as_fd())? {
            return Ok(0);
        }
    }
}

fn views(vms: &[VmRecord]) -> Vec<VmView> {
    vms.iter().map(VmView::from).collect()
}
