//! Printing, in the form the user asked for.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::color::{ColorMode, StreamColor, TextTone};
use super::escape::{escape, escape_json};
use super::failure::ErrorReport;
use crate::archive::CopyTally;
use crate::lifecycle::{PhaseTimings, StartRemark};

/// How to print: global flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct PrintStyle {
    /// Print JSON: data on stdout, errors on stderr
    #[arg(long, global = true)]
    pub json: bool,

    /// Print nothing but data and errors
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
        default_value_t = ColorMode::Auto, value_enum
    )]
    pub color: ColorMode,
}

/// The way out of the program.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub style: PrintStyle,
}

impl Printer {
    /// A line of data for people, or for `$(…)`.
    pub fn data(&self, line: &str) -> Result<()> {
        to_stdout(format!("{line}\n").as_bytes()).map(drop)
    }

    /// A piece of a stream; whether somebody still reads it. It must be harmless by now, or meant to be raw.
    pub fn stream(&self, piece: &[u8]) -> Result<bool> {
        to_stdout(piece)
    }

    /// One JSON value on a line of its own.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).context("cannot serialize the answer")?;
        to_stdout(format!("{}\n", escape_json(&line)).as_bytes()).map(drop)
    }

    /// The JSON value with `--json`, else the line.
    pub fn answer(&self, value: &impl Serialize, line: &str) -> Result<()> {
        if self.style.json { self.json(value) } else { self.data(line) }
    }

    /// What a verb says when it has done something: the whole truth with `--json`, else the word by
    /// which the user named it, unless quiet.
    pub fn done(&self, value: &impl Serialize, named: &str) -> Result<()> {
        match self.style {
            PrintStyle { json: true, .. } => self.json(value),
            PrintStyle { quiet: true, .. } => Ok(()),
            _ => self.data(named),
        }
    }

    /// The colours of data for people.
    pub fn paint(&self) -> StreamColor {
        self.style.color.on_stdout()
    }

    /// Whether a person watches standard error and wants to.
    pub fn is_watched(&self) -> bool {
        std::io::stderr().is_terminal() && !self.style.json && !self.style.quiet
    }

    /// Whether a line that was printed there can be printed over.
    pub fn can_redraw(&self) -> bool {
        let terminal = std::env::var_os("TERM").filter(|name| !name.is_empty() && name != "dumb");
        terminal.is_some() && self.is_watched()
    }

    /// A remark, unless quiet.
    pub fn note(&self, line: &str) {
        if !self.style.quiet {
            to_stderr(&format!("{}\n", escape(line)));
        }
    }

    /// A remark for a person who watches: only where standard error is a terminal.
    pub fn aside(&self, line: &str) {
        if self.is_watched() {
            self.note(line);
        }
    }

    /// What there is to say while a VM starts.
    pub fn remark(&self, remark: &StartRemark) {
        match remark {
            StartRemark::Odd(text) => self.note(&format!("mayfly: {text}")),
            StartRemark::Slow(text) => self.aside(&format!("mayfly: {text}")),
        }
    }

    /// What a copy left out.
    pub fn skipped(&self, tally: &CopyTally) {
        for (name, kind) in &tally.skipped {
            // In quotes, because it may have more than one line.
            self.note(&format!("mayfly: left out {:?}: {kind}", name.to_string()));
        }
        let more = tally.skipped_count - tally.skipped.len() as u64;
        if more > 0 {
            self.note(&format!("mayfly: left out {more} more"));
        }
    }

    /// A remark for somebody who wants to know more.
    pub fn detail(&self, line: &str) {
        if self.style.verbose {
            to_stderr(&format!("{}\n", escape(line)));
        }
    }

    /// How a command ended, where its exit code alone does not say.
    pub fn verdict(&self, line: &str) {
        to_stderr(&format!("{}\n", escape(line)));
    }

    /// The phases of an operation, for somebody who wants to know more.
    pub fn timings(&self, timings: &PhaseTimings) {
        for (phase, milliseconds) in timings.phases() {
            self.detail(&format!("{phase:>10} {milliseconds:9.1} ms"));
        }
    }

    /// An error, in the form asked for.
    pub fn failure(&self, failure: &ErrorReport) {
        if self.style.json {
            // A struct keeps the order of the fields; a JSON map would sort them.
            #[derive(Serialize)]
            struct Whole<'a> {
                error: &'a ErrorReport,
            }
            if let Ok(line) = serde_json::to_string(&Whole { error: failure }) {
                to_stderr(&format!("{}\n", escape_json(&line)));
            }
            return;
        }
        let paint = self.style.color.on_stderr();
        let mut text = format!("{} {}\n", paint.paint(TextTone::Bad, "mayfly:"), failure.message);
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("{} {hint}\n", paint.paint(TextTone::Advice, "hint:")));
        }
        to_stderr(&text);
    }
}

/// Whether somebody still reads: one who has read enough (`mayfly status | head -1`) is no failure of ours.
pub(super) fn to_stdout(bytes: &[u8]) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.context("cannot write to standard output").map(|()| true),
    }
}

/// There is nobody left to tell if this fails.
fn to_stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
