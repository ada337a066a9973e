//! Makes an animated picture of a recorded terminal: `film SEEN TIMES PICTURE`.
//!
//! The first two are what `script --log-out SEEN --log-timing TIMES` wrote, the third becomes an SVG that
//! plays without a script, for ever, in the colours of a light or a dark screen.
//!
//! Debian has termtosvg for that. Nobody looks after it any more, its picture is three times as large, and knows
//! no dark screen. What is hard about it, to be a terminal, the crate vt100 does here.

mod picture;
mod recording;

use std::fs;

use anyhow::{Context, Result, ensure};

/// A picture in a README is loaded by everybody who looks at it.
const LARGEST: usize = 150_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seen, times, picture] = arguments.as_slice() else {
        anyhow::bail!("usage: film SEEN TIMES PICTURE");
    };
    let seen = fs::read(seen).with_context(|| format!("cannot read {seen}"))?;
    let times = fs::read_to_string(times).with_context(|| format!("cannot read {times}"))?;
    let frames = recording::frames(&seen, &times)?;
    let svg = picture::draw(&frames)?;
    ensure!(svg.len() < LARGEST, "the picture has {} bytes: too many", svg.len());
    fs::write(picture, svg).with_context(|| format!("cannot write {picture}"))
}
