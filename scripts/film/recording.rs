//! Plays a recording in an emulated terminal.

use std::num::NonZero;

use anyhow::{Context, Result, ensure};
use vt100::{Color, Parser, Screen};

/// The size of the terminal that scripts/tour records.
pub const ROWS: u16 = 22;
pub const COLUMNS: u16 = 84;

/// The prompt that scripts/tour sets for bash.
const PROMPT: &str = "$";

/// In seconds. Changes within this time look like one, so they make one frame.
const BLINK: f64 = 0.03;

/// Characters in a row that look the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    pub column: u16,
    pub text: String,
    /// One of the terminal's 16 colours.
    pub colour: Option<u8>,
    pub bold: bool,
    pub faint: bool,
}

pub type Row = Vec<Run>;

/// What the terminal shows from a given time on.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub at: f64,
    pub rows: Vec<Row>,
    /// The row and column of the cursor, where there is one.
    pub cursor: Option<(u16, u16)>,
}

/// Plays what `script` wrote. `seen` begins with a header line. Each line of `times` is a delay in seconds
/// and the number of bytes that followed it.
pub fn frames(seen: &[u8], times: &str) -> Result<Vec<Frame>> {
    let headline = seen.iter().position(|byte| *byte == b'\n').context("nothing was recorded")?;
    let mut rest = &seen[headline + 1..];
    let size = |length| NonZero::new(length).context("a terminal has a size");
    let mut terminal = Parser::new(size(ROWS)?, size(COLUMNS)?, 0);
    let mut frames: Vec<Frame> = Vec::new();
    let mut now = 0.0;
    for line in times.lines() {
        let (delay, count) = line.split_once(' ').context("a line of times has no space")?;
        now += delay.parse::<f64>()?;
        let came = rest.split_off(..count.parse()?).context("the recording ends early")?;
        terminal.process(came);
        let frame = look(terminal.screen(), now)?;
        match frames.last_mut() {
            Some(last) if last.rows == frame.rows && last.cursor == frame.cursor => {}
            Some(last) if now - last.at < BLINK => *last = Frame { at: last.at, ..frame },
            _ => frames.push(frame),
        }
    }
    ensure!(!frames.is_empty(), "nothing was recorded");
    Ok(frames)
}

/// The lines that were typed after a prompt, in order.
pub fn typed(frames: &[Frame]) -> Vec<String> {
    let lines = frames.iter().map(|frame| {
        let runs = frame.cursor.map_or(&[][..], |(row, _)| &frame.rows[usize::from(row)]);
        match runs {
            [prompt, typed @ ..] if prompt.text == PROMPT && prompt.column == 0 => {
                typed.iter().map(|run| run.text.as_str()).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        }
    });
    let mut lines: Vec<String> = lines.collect();
    // A line grows while it is typed: keep only its last state.
    lines.dedup_by(|line, grown| {
        let grows = !grown.is_empty() && line.starts_with(grown.as_str());
        if grows {
            std::mem::swap(line, grown);
        }
        grows
    });
    lines.retain(|line| !line.is_empty());
    lines
}

fn look(screen: &Screen, at: f64) -> Result<Frame> {
    let rows = (0..ROWS).map(|row| runs(screen, row)).collect::<Result<_>>()?;
    let cursor = (!screen.hide_cursor()).then(|| screen.cursor_position());
    Ok(Frame { at, rows, cursor })
}

/// # Errors
/// Text with attributes or colours that the picture cannot show.
fn runs(screen: &Screen, row: u16) -> Result<Row> {
    let mut runs: Row = Vec::new();
    for column in 0..COLUMNS {
        let cell = screen.cell(row, column).context("the terminal has another size")?;
        let plain = cell.bgcolor() == Color::Default
            && !(cell.inverse() || cell.underline() || cell.italic() || cell.is_wide());
        ensure!(
            plain,
            "row {row}, column {column} has an attribute that cannot be drawn: {cell:?}"
        );
        let colour = match cell.fgcolor() {
            Color::Default => None,
            Color::Idx(index @ 0..16) => Some(index),
            other => {
                anyhow::bail!(
                    "row {row}, column {column} has a colour that cannot be drawn: {other:?}"
                )
            }
        };
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let same =
            |run: &&mut Run| (run.colour, run.bold, run.faint) == (colour, cell.bold(), cell.dim());
        match runs.last_mut().filter(same) {
            Some(run) => run.text.push_str(text),
            None => runs.push(Run {
                column,
                text: text.to_owned(),
                colour,
                bold: cell.bold(),
                faint: cell.dim(),
            }),
        }
    }
    for run in &mut runs {
        let begin = run.text.len() - run.text.trim_start().len();
        run.column += u16::try_from(begin)?;
        run.text = run.text.trim().to_owned();
    }
    runs.retain(|run| !run.text.is_empty());
    Ok(runs)
}

#[test]
fn frames_have_the_recorded_times() {
    let seen = b"Script started\na\x1b[31mb\r\nc";
    let frames = frames(seen, "0.5 1\n1.0 6\n0.01 3\n").unwrap();
    assert_eq!(frames.len(), 2, "changes at the same time are one frame: {frames:?}");
    assert_eq!((frames[0].at, frames[1].at), (0.5, 1.5));
    let texts: Vec<&str> = frames[1].rows.iter().flatten().map(|run| &*run.text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!((frames[1].rows[0][1].colour, frames[1].rows[0][1].column), (Some(1), 1));
    assert_eq!(frames[1].cursor, Some((1, 1)));
}

#[test]
fn typed_lines_are_found() {
    let seen = b"started\n\x1b[1m$\x1b[0m ls\r\na $ b\r\n\x1b[1m$\x1b[0m ";
    let frames = frames(seen, "0.1 9\n1.0 3\n1.0 2\n1.0 6\n1.0 11\n").unwrap();
    assert_eq!(typed(&frames), ["ls"]);
}

#[test]
fn unsupported_attributes_are_refused() {
    assert!(frames(b"started\n\x1b[7mx", "0.1 5\n").is_err());
    assert!(frames(b"started\nx", "0.1 5\n").is_err());
}
