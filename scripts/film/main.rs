//! Draws a recorded terminal as an animated picture: `film SEEN TIMES PICTURE`.
//!
//! SEEN and TIMES are what `script --log-out SEEN --log-timing TIMES` wrote. PICTURE is an SVG that repeats
//! forever, needs no script, and follows the viewer's light or dark colour scheme.
//!
//! termtosvg, which Debian packages, is unmaintained; its pictures are three times as large and have no
//! dark colours. The crate vt100 does the hard part, emulating a terminal.

mod picture;
mod recording;

use std::fs;

use anyhow::{Context, Result, ensure};

/// In bytes: everyone who opens the README loads the picture.
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
