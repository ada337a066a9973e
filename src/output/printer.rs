//! Printing in the form that the global flags ask for.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::color::{ColorMode, TextTone};
use super::error_report::ErrorReport;
use super::escape::{escape, escape_json};
use super::layout::TableLayout;
use super::network_view::host_address;
use super::standard::{to_stderr, to_stdout};
use crate::archive::CopyTally;
use crate::host::terminal::HostTerminal;
use crate::lifecycle::{PhaseTimings, StartRemark};
use crate::model::GuestPort;
use crate::sys::poll::{self, PollFlags};

/// How long a verdict waits for room on standard error.
const VERDICT_LIMIT: Duration = Duration::from_secs(1);

/// How to print: global flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct PrintStyle {
    /// Print JSON: data on stdout, errors on stderr
    #[arg(long, global = true)]
    pub json: bool,

    /// Print no notes, and only the ids or names of lists
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Print what happens, with the time each phase took
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Print in colours
    ///
    /// JSON is never coloured; output of commands in a VM is left as it is.
    #[arg(
        long, global = true, value_name = "WHEN", env = "MAYFLY_COLOR",
        default_value_t = ColorMode::Auto, value_enum, hide_short_help = true
    )]
    pub color: ColorMode,
}

/// Prints data, notes and errors.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub style: PrintStyle,
}

impl Printer {
    /// Prints a line of data, for people or for `$(…)`.
    pub fn data(&self, line: &str) -> Result<()> {
        to_stdout(format!("{line}\n").as_bytes()).map(drop)
    }

    /// Prints a piece of a stream, which must be escaped already or meant to be raw. Returns whether standard
    /// output still has a reader.
    pub fn stream(&self, piece: &[u8]) -> Result<bool> {
        to_stdout(piece)
    }

    /// Prints a JSON value on a line of its own.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).context("cannot serialize the answer")?;
        to_stdout(format!("{}\n", escape_json(&line)).as_bytes()).map(drop)
    }

    /// Prints the value with `--json`, otherwise the line.
    pub fn answer(&self, value: &impl Serialize, line: &str) -> Result<()> {
        if self.style.json { self.json(value) } else { self.data(line) }
    }

    /// Prints a list: the value with `--json`, only the names with `--quiet`, otherwise the table.
    pub fn list<'a>(
        &self,
        value: &impl Serialize,
        names: impl Iterator<Item = &'a str>,
        table: &str,
    ) -> Result<()> {
        if !self.style.quiet || self.style.json {
            return self.answer(value, table);
        }
        let names: Vec<&str> = names.collect();
        if names.is_empty() { Ok(()) } else { self.data(&names.join("\n")) }
    }

    /// Prints what a verb has done something to: the value with `--json`, otherwise its name as the user
    /// typed it, unless `--quiet` is given. The error names it too.
    pub fn done(&self, value: &impl Serialize, named: &str) -> Result<()> {
        if self.style.quiet && !self.style.json {
            return Ok(());
        }
        self.made(value, named)
    }

    /// As [`Printer::answer`], for the name of what was made. The error names it too.
    pub fn made(&self, value: &impl Serialize, name: &str) -> Result<()> {
        let printed = self.answer(value, name);
        printed.with_context(|| format!("{name}: it is done, but the result cannot be printed"))
    }

    /// Prints what a verb has done, a line each, and with `--json` the value. What cannot be written to standard
    /// output goes to standard error, because it is known nowhere else.
    pub fn results(&self, value: &impl Serialize, lines: &[String]) -> Result<()> {
        let printed = match lines {
            _ if self.style.json => self.json(value),
            [] => Ok(()),
            lines => {
                self.data(&lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n"))
            }
        };
        printed
            .inspect_err(|_| lines.iter().for_each(|line| self.verdict(&format!("mayfly: {line}"))))
    }

    /// How tables are printed on standard output.
    pub fn layout(&self) -> TableLayout {
        let terminal = HostTerminal::of(stdout().as_fd()).ok().flatten();
        TableLayout {
            width: terminal.map(|terminal| terminal.size().or_usual().columns.into()),
            paint: self.style.color.on_stdout(),
        }
    }

    /// Whether standard error is a terminal and neither `--json` nor `--quiet` is given.
    pub fn is_watched(&self) -> bool {
        std::io::stderr().is_terminal() && !self.style.json && !self.style.quiet
    }

    /// The same, if the terminal can also overwrite lines.
    pub fn can_redraw(&self) -> bool {
        let terminal = std::env::var_os("TERM").filter(|name| !name.is_empty() && name != "dumb");
        terminal.is_some() && self.is_watched()
    }

    /// Prints a note, unless `--quiet` is given.
    pub fn note(&self, line: &str) {
        if !self.style.quiet {
            to_stderr(&format!("{}\n", escape(line)));
        }
    }

    /// Prints a note only if [`Printer::is_watched`].
    pub fn note_on_terminal(&self, line: &str) {
        if self.is_watched() {
            self.note(line);
        }
    }

    /// Prints a remark about the start of a VM.
    pub fn remark(&self, remark: &StartRemark) {
        match remark {
            // In JSON, the field `isolation` says it.
            StartRemark::NotIsolated if self.style.json => {}
            StartRemark::NotIsolated => {
                self.note("mayfly: mock does not isolate: commands run on this host as you");
            }
            StartRemark::Published(port) => {
                let (host, guest) = (host_address(port), GuestPort::of(port));
                self.note(&format!("mayfly: published {host} -> {guest}"));
            }
            StartRemark::Warning(text) => self.note(&format!("mayfly: {text}")),
            StartRemark::Progress(text) => self.note_on_terminal(&format!("mayfly: {text}")),
        }
    }

    /// Prints what a copy left out.
    pub fn skipped(&self, tally: &CopyTally) {
        for (name, kind) in &tally.skipped {
            // Quoted, because it may contain line breaks.
            self.note(&format!("mayfly: left out {:?}: {kind}", name.to_string()));
        }
        let more = tally.skipped_count - tally.skipped.len() as u64;
        if more > 0 {
            self.note(&format!("mayfly: left out {more} more"));
        }
    }

    /// Prints a note only with `--verbose`.
    pub fn detail(&self, line: &str) {
        if self.style.verbose {
            to_stderr(&format!("{}\n", escape(line)));
        }
    }

    /// Prints a line on standard error, even with `--quiet`.
    pub fn verdict(&self, line: &str) {
        to_stderr_in_time(&format!("{}\n", escape(line)));
    }

    /// Prints what mayfly has to say about the end of a command.
    pub fn conclusion(&self, error: &ErrorReport) {
        to_stderr_in_time(&self.text_of(error));
    }

    /// Prints how long each phase of an operation took, with `--verbose`.
    pub fn timings(&self, timings: &PhaseTimings) {
        for (phase, milliseconds) in timings.phases() {
            self.detail(&format!("{phase:>10} {milliseconds:9.1} ms"));
        }
    }

    /// Prints an error.
    pub fn failure(&self, failure: &ErrorReport) {
        if self.style.json {
            if let Ok(line) = serde_json::to_string(&BTreeMap::from([("error", failure)])) {
                to_stderr(&format!("{}\n", escape_json(&line)));
            }
            return;
        }
        to_stderr(&self.text_of(failure));
    }

    fn text_of(&self, failure: &ErrorReport) -> String {
        let paint = self.style.color.on_stderr();
        let mut text = format!("{} {}\n", paint.paint(TextTone::Bad, "mayfly:"), failure.message);
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("{} {hint}\n", paint.paint(TextTone::Advice, "hint:")));
        }
        text
    }
}

/// As [`to_stderr`], but drops the text if standard error has no room: a reader that has stopped reading must not
/// keep a command beyond its time limit.
fn to_stderr_in_time(text: &str) {
    let limit = Instant::now() + VERDICT_LIMIT;
    let room = poll::wait_for(std::io::stderr().as_fd(), PollFlags::POLLOUT, Some(limit));
    if room.unwrap_or(true) {
        to_stderr(text);
    }
}
