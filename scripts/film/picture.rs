//! Draws frames as an SVG: a strip with all frames, one below the other, that moves behind a window.
//!
//! Two frames usually differ only in the cursor's row. Each distinct row is therefore defined once, and so
//! is each distinct set of all other rows; a frame refers to one set and to one row.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::Result;

use crate::recording::{COLUMNS, Frame, ROWS, Row, typed};

/// The size of a character, in the picture's units.
const WIDTH: u16 = 8;
const HEIGHT: u16 = 17;
const MARGIN: u16 = 16;
/// Free space below a frame, so that nothing of it shows in the next.
const GAP: u16 = HEIGHT;

/// How long the last frame stays, in seconds.
const END: f64 = 5.0;

/// Rows and screens that are defined already, with their numbers.
#[derive(Default)]
struct Definitions {
    rows: HashMap<Row, usize>,
    screens: HashMap<Vec<usize>, usize>,
    svg: String,
}

impl Definitions {
    fn row(&mut self, row: &Row) -> Result<usize> {
        if let Some(name) = self.rows.get(row) {
            return Ok(*name);
        }
        let name = self.rows.len();
        write!(self.svg, "<text id=\"r{name}\">")?;
        for run in row {
            let (x, length) = (run.column * WIDTH, run.text.chars().count() * usize::from(WIDTH));
            write!(self.svg, "<tspan x=\"{x}\" textLength=\"{length}\"")?;
            let mut classes: Vec<String> =
                run.colour.iter().map(|index| format!("c{index}")).collect();
            classes.extend(run.bold.then(|| "b".into()));
            classes.extend(run.faint.then(|| "d".into()));
            if !classes.is_empty() {
                write!(self.svg, " class=\"{}\"", classes.join(" "))?;
            }
            write!(self.svg, ">{}</tspan>", escaped(&run.text))?;
        }
        self.svg.push_str("</text>\n");
        self.rows.insert(row.clone(), name);
        Ok(name)
    }

    /// Defines a screen, which is given as its rows' numbers from the top.
    fn screen(&mut self, rows: Vec<usize>, empty: usize) -> Result<usize> {
        if let Some(name) = self.screens.get(&rows) {
            return Ok(*name);
        }
        let name = self.screens.len();
        write!(self.svg, "<g id=\"s{name}\">")?;
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| **row != empty) {
            write!(self.svg, "<use href=\"#r{row}\" y=\"{}\"/>", at * usize::from(HEIGHT))?;
        }
        self.svg.push_str("</g>\n");
        self.screens.insert(rows, name);
        Ok(name)
    }
}

/// Draws the whole picture.
pub fn draw(frames: &[Frame]) -> Result<String> {
    let mut known = Definitions::default();
    let empty = known.row(&Row::new())?;
    let begin = frames[0].at;
    let seconds = frames[frames.len() - 1].at - begin + END;
    let (width, height) = (COLUMNS * WIDTH, ROWS * HEIGHT);
    let (mut strip, mut moves) = (String::new(), String::new());
    let mut top = 0;
    for (index, frame) in frames.iter().enumerate() {
        let mut rows = frame.rows.iter().map(|row| known.row(row)).collect::<Result<Vec<_>>>()?;
        top = index * usize::from(height + GAP);
        let at = frame.cursor.map_or(0, |(row, _)| row);
        let current = std::mem::replace(&mut rows[usize::from(at)], empty);
        write!(strip, "<use href=\"#s{}\" y=\"{top}\"/>", known.screen(rows, empty)?)?;
        let y = top + usize::from(at * HEIGHT);
        if let Some((_, column)) = frame.cursor {
            write!(
                strip,
                "<use href=\"#k\" x=\"{}\" y=\"{y}\"/>",
                column.min(COLUMNS - 1) * WIDTH
            )?;
        }
        writeln!(strip, "<use href=\"#r{current}\" y=\"{y}\"/>")?;
        let share = (frame.at - begin) / seconds * 100.0;
        writeln!(moves, "{share:.3}%{{transform:translateY(-{top}px)}}")?;
    }
    let style = include_str!("style.css");
    let (w, h) = (width + 2 * MARGIN, height + 2 * MARGIN);
    let defs = known.svg;
    let commands = escaped(&typed(frames).join("\n"));
    Ok(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-labelledby="title what">
<title id="title">mayfly in a terminal</title>
<desc id="what">{commands}</desc>
<style>
{style}
.film{{transform:translateY(-{top}px);animation:film {seconds:.2}s step-end infinite}}
@media (prefers-reduced-motion:reduce){{.film{{animation:none}}}}
@keyframes film{{
{moves}100%{{transform:translateY(-{top}px)}}}}
</style>
<defs>
<rect id="k" class="cursor" y="1" width="{WIDTH}" height="{HEIGHT}"/>
{defs}</defs>
<rect class="frame" x="0.5" y="0.5" width="{}" height="{}" rx="6"/>
<svg x="{MARGIN}" y="{MARGIN}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<g class="film">
{strip}</g>
</svg>
</svg>
"##,
        w - 1,
        h - 1,
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn rows_are_drawn_once_and_text_is_escaped() {
    let seen = b"started\na <&>\r\nb\r\nb";
    let frames = crate::recording::frames(seen, "0.1 7\n1.0 3\n1.0 1\n").unwrap();
    let svg = draw(&frames).unwrap();
    assert!(svg.contains("a &lt;&amp;&gt;</tspan>"), "{svg}");
    assert_eq!(svg.matches(">b</tspan>").count(), 1, "{svg}");
    assert_eq!(svg.matches("%{transform").count(), frames.len() + 1, "{svg}");
}
