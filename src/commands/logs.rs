//! `mayfly logs`.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use anyhow::{Result, bail};
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use crate::lifecycle::{self, LogFollower, LogKind, NetworkLogLine, NetworkLogParser, VmManager};
use crate::model::{Refusal, VmId, VmRef};
use crate::output::{ForeignText, LogView, NetworkEntryView, network_log_line};

/// Show what a VM printed on its console
///
/// Also works for a VM that has stopped, expired or failed to start: a log is kept until the next start. A
/// VM started from a template did not boot, so its log begins later. A VM of the mock backend has no
/// console; the output of its agent is shown instead.
///
/// With --net, what the VM was denied on the network is shown, and the rule that would allow it. Times are UTC. What
/// is denied again within a minute, or too often, is only counted.
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
  mayfly logs --net ci           what the VM was denied on the network
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

    /// Show what the VM was denied on the network
    #[arg(long, conflicts_with = "vmm")]
    net: bool,

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
    let log = match args {
        Args { net: true, .. } => LogKind::Network,
        Args { vmm: true, .. } => LogKind::Vmm,
        _ => LogKind::Console,
    };
    if args.follow {
        follow(app, &manager, &id, log, &args)?;
        return Ok(0);
    }
    let all = lifecycle::read_log(&manager, &id, log)?;
    if json && args.net {
        let mut parser = NetworkLogParser::default();
        let mut entries: Vec<NetworkEntryView> =
            parser.lines(&all).into_iter().chain(parser.rest()).map(Into::into).collect();
        let first = entries.len() - entries.len().min(args.tail.unwrap_or(usize::MAX));
        app.printer.json(&entries.split_off(first))?;
        return Ok(0);
    }
    if json {
        app.printer.json(&LogView::new(&id, log, tail_of(&all, args.tail).to_vec()))?;
        return Ok(0);
    }
    let mut out = LogPrinter::new(app, &args);
    out.begin(&all, args.tail)?;
    out.end()?;
    if all.is_empty() {
        note_empty(app, &manager, &id, log)?;
    }
    Ok(0)
}

/// Says why a log is empty.
fn note_empty(app: &AppContext, manager: &VmManager, id: &VmId, log: LogKind) -> Result<()> {
    let all = lifecycle::status_all(manager, &[])?;
    let vm = all.iter().find(|vm| vm.id() == id);
    let instance = vm.and_then(|vm| vm.state.instance());
    let is_copy = instance.is_some_and(|instance| instance.template.is_some());
    if log == LogKind::Network {
        let has_none = vm.is_some_and(|vm| vm.manifest.network.is_none());
        app.printer.note_on_terminal(if has_none {
            "mayfly: the VM has no network: '--net' and '--allow' of 'run' and 'create' give it one"
        } else {
            "mayfly: the VM was denied nothing since its last start"
        });
        return Ok(());
    }
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
    let mut out = LogPrinter::new(app, args);
    if !out.begin(&initial, args.tail)? {
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

/// Prints a log.
struct LogPrinter<'a> {
    app: &'a AppContext,
    form: LogForm,
}

/// How the bytes of a log are printed.
enum LogForm {
    /// As they are.
    Raw,
    /// Escaped.
    Text(ForeignText),
    /// As sentences.
    Network(NetworkLogParser),
}

impl LogPrinter<'_> {
    fn new<'a>(app: &'a AppContext, args: &Args) -> LogPrinter<'a> {
        let form = match (args.raw, args.net) {
            (true, _) => LogForm::Raw,
            (_, true) => LogForm::Network(NetworkLogParser::default()),
            _ => LogForm::Text(ForeignText::default()),
        };
        LogPrinter { app, form }
    }

    /// Prints the last lines of what is in the log now.
    fn begin(&mut self, all: &[u8], lines: Option<usize>) -> Result<bool> {
        if let LogForm::Network(_) = self.form {
            let text = self.text(all);
            return self.app.printer.stream(tail_of(&text, lines));
        }
        self.print(tail_of(all, lines))
    }

    /// Prints a piece. Returns whether standard output still has a reader.
    fn print(&mut self, piece: &[u8]) -> Result<bool> {
        let text = self.text(piece);
        self.app.printer.stream(&text)
    }

    fn text(&mut self, piece: &[u8]) -> Vec<u8> {
        match &mut self.form {
            LogForm::Raw => piece.to_vec(),
            LogForm::Text(foreign) => foreign.text(piece).into_bytes(),
            LogForm::Network(parser) => sentences(&parser.lines(piece)),
        }
    }

    fn end(&mut self) -> Result<()> {
        let rest = match &mut self.form {
            LogForm::Raw => Vec::new(),
            LogForm::Text(foreign) => foreign.rest().into_bytes(),
            LogForm::Network(parser) => sentences(&parser.rest()),
        };
        self.app.printer.stream(&rest).map(drop)
    }
}

fn sentences(lines: &[NetworkLogLine]) -> Vec<u8> {
    lines.iter().map(|line| network_log_line(line) + "\n").collect::<String>().into_bytes()
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
