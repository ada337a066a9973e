//! `mayfly logs`.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use anyhow::{Result, bail};
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use crate::lifecycle::{self, LogFollower, LogKind, VmManager};
use crate::model::{Refusal, VmId, VmRef};
use crate::output::{ForeignText, LogView};

/// Show what a VM printed on its console
///
/// Also works for a VM that has stopped, expired or failed to start: a log is kept until the next start. A
/// VM started from a template did not boot, so its log begins later. A VM of the mock backend has no
/// console; the output of its agent is shown instead.
///
/// Because a guest can print anything, escape sequences are shown, not executed, even in a pipe. A log holds
/// about a megabyte. Once a guest has filled it, further output is lost until 'create' or 'reap' cuts the
/// log down to its end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly logs ci
  mayfly logs -f -n 20 ci        the last 20 lines, then new ones
  mayfly logs --vmm ci           what QEMU or Firecracker printed
  mayfly logs --raw ci > console.log")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vm: VmRef,

    /// Also show new output, until the VM ends
    #[arg(short, long)]
    follow: bool,

    /// Show what the VMM itself printed
    #[arg(long)]
    vmm: bool,

    /// Start with the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,

    /// Print the bytes as they are, to a file or a pipe
    ///
    /// Refused if standard output is a terminal.
    #[arg(long)]
    raw: bool,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let json = app.printer.style.json;
    if json && (args.follow || args.raw) {
        bail!(
            Refusal::usage(
                "--json prints the log as one value: it cannot be used with -f or --raw",
            )
            .hint("leave out one of them")
        );
    }
    if args.raw && std::io::stdout().is_terminal() {
        bail!(
            Refusal::usage("--raw does not write to a terminal")
                .hint("a guest could control it: write to a file or a pipe")
        );
    }
    let manager = app.open_to_read()?;
    let id = manager.resolve(&args.vm)?;
    let log = if args.vmm { LogKind::Vmm } else { LogKind::Console };
    if args.follow {
        follow(app, &manager, &id, log, &args)?;
        return Ok(0);
    }
    let all = lifecycle::read_log(&manager, &id, log)?;
    let end = tail_of(&all, args.tail);
    if json {
        app.printer.json(&LogView::new(&id, log, end.to_vec()))?;
        return Ok(0);
    }
    let mut out = LogPrinter { app, foreign: (!args.raw).then(ForeignText::default) };
    out.print(end)?;
    out.end()?;
    if all.is_empty() {
        note_empty(app, &manager, &id, log)?;
    }
    Ok(0)
}

/// Says why a log is empty.
fn note_empty(app: &AppContext, manager: &VmManager, id: &VmId, log: LogKind) -> Result<()> {
    let all = lifecycle::status_all(manager, &[])?;
    let instance = all.iter().find(|vm| vm.id() == id).and_then(|vm| vm.state.instance());
    let is_copy = instance.is_some_and(|instance| instance.template.is_some());
    if is_copy && log == LogKind::Console {
        app.printer.note(
            "mayfly: the log is empty: the VM started from a template, which had already booted",
        );
    } else {
        app.printer.note_on_terminal("mayfly: the VM has printed nothing yet");
    }
    Ok(())
}

/// Prints a log and then what is added to it. There is nothing to clean up, so signals keep their default
/// effect.
fn follow(
    app: &AppContext,
    manager: &VmManager,
    id: &VmId,
    log: LogKind,
    args: &Args,
) -> Result<()> {
    let (follower, initial) = LogFollower::begin(manager, id, log)?;
    let mut out = LogPrinter { app, foreign: (!args.raw).then(ForeignText::default) };
    if !out.print(tail_of(&initial, args.tail))? {
        return Ok(());
    }
    let stdout = std::io::stdout();
    follower.follow(Some(stdout.as_fd()), |piece| out.print(piece))?;
    out.end()
}

/// The last `lines` lines of a log, or all of it.
fn tail_of(log: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return log };
    // A line break at the end does not begin another line.
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    let mut breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    match lines.checked_sub(1) {
        None => &[],
        Some(others) => breaks.nth(others).map_or(log, |(at, _)| &log[at + 1..]),
    }
}

/// Prints the bytes of a log.
struct LogPrinter<'a> {
    app: &'a AppContext,
    /// `None` to print them as they are.
    foreign: Option<ForeignText>,
}

impl LogPrinter<'_> {
    /// Prints a piece. Returns whether standard output still has a reader.
    fn print(&mut self, piece: &[u8]) -> Result<bool> {
        match &mut self.foreign {
            Some(foreign) => self.app.printer.stream(foreign.text(piece).as_bytes()),
            None => self.app.printer.stream(piece),
        }
    }

    fn end(&mut self) -> Result<()> {
        let rest = self.foreign.as_mut().map(ForeignText::rest).unwrap_or_default();
        self.app.printer.stream(rest.as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::tail_of;

    #[test]
    fn tail_is_the_last_lines() {
        let log = b"one\ntwo\n\nthree";
        for (lines, expected) in [
            (Some(0), &b""[..]),
            (Some(1), b"three"),
            (Some(2), b"\nthree"),
            (Some(3), b"two\n\nthree"),
            (Some(4), log),
            (Some(9), log),
            (None, log),
        ] {
            assert_eq!(tail_of(log, lines), expected, "{lines:?}");
        }
        assert_eq!(tail_of(b"one\ntwo\n", Some(1)), b"two\n");
        assert_eq!(tail_of(b"", Some(3)), b"");
        assert_eq!(tail_of(b"\n", Some(1)), b"\n");
    }
}
