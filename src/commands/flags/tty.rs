//! The user's terminal, for a command that gets one like it.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};

use crate::commands::AppContext;
use crate::guest::{OutputSink, StdinSource};
use crate::host::terminal::HostTerminal;
use crate::lifecycle::ExecStreams;
use crate::model::Refusal;
use crate::protocol::{self, ExecRequest, WindowSize, WireText};

/// The terminal type if `TERM` is not set, as with docker.
const DEFAULT_TERM: &str = "xterm";

/// Gives the request a terminal like the one on standard input, and takes its keys from there. `flag` is how
/// the user asked for it, `instead` the hint if standard input is not a terminal.
///
/// # Errors
/// `Usage` if standard input is not a terminal, or with `--json`.
pub fn attach(
    app: &AppContext,
    exec: &mut ExecRequest,
    flag: &str,
    instead: &str,
) -> Result<ExecStreams> {
    if app.printer.style.json {
        let message = format!("{flag} cannot be used with '--json': a screen is not data");
        bail!(Refusal::usage(message).hint("leave out one of them"));
    }
    let terminal = HostTerminal::of(std::io::stdin().as_fd())?.ok_or_else(|| {
        let message = format!("{flag} needs a terminal, and standard input is not one");
        Refusal::usage(message).hint(instead)
    })?;
    let size = terminal.size();
    exec.stdin = true;
    exec.tty = Some(protocol::TerminalRequest {
        size: WindowSize { rows: size.rows, columns: size.columns },
        name: std::env::var_os("TERM")
            .filter(|name| !name.is_empty())
            .map_or(DEFAULT_TERM.into(), WireText::from),
    });
    let screen = std::io::stdout().as_fd().try_clone_to_owned();
    let notices = std::io::stderr().as_fd().try_clone_to_owned();
    Ok(ExecStreams {
        stdin: Some(StdinSource::Terminal(terminal)),
        stdout: OutputSink::Stream(screen.context("cannot use a standard stream")?),
        // A terminal has only one output stream: this one is for what mayfly itself says.
        stderr: OutputSink::Stream(notices.context("cannot use a standard stream")?),
    })
}
