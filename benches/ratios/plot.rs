//! Draws the comparison of fresh environments as an SVG: bars on a logarithmic scale.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use kuva::plot::BarPlot;
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;

use crate::warm::RunTimes;

/// Greys and blues that are legible on white and on black, because a README is shown on either.
const TEXT: &str = "#757d88";
const OURS: &str = "#2f81f7";
const FLOOR: &str = "#85b0e6";
const OTHER: &str = "#949ca6";

const TITLE: &str = "Time to run true in a fresh environment (logarithmic scale)";

/// The picture's size and margins in pixels.
const WIDTH: f64 = 760.0;
const SIDES: (f64, f64) = (200.0, 12.0);
const ENDS: (f64, f64) = (42.0, 30.0);
const ROW: f64 = 34.0;

/// The space between a bar and its value, and the width of one of the value's characters, in pixels.
const GAP: f64 = 6.0;
const CHARACTER: f64 = 7.8;

/// The share of a row that is bar, and how far below the row's middle the value's baseline is.
const BAR: f64 = 0.62;
const BASELINE: f64 = 0.3;

struct Bar {
    name: String,
    ms: f64,
    color: &'static str,
}

/// Writes the picture to `file`.
pub fn draw(times: &RunTimes, file: &Path) -> Result<()> {
    let write = || {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        fs::write(file, svg(bars(times)) + "\n")
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    println!("drawn in {}", file.display());
    Ok(())
}

/// The bars, the slowest last: they are drawn from the bottom up.
fn bars(times: &RunTimes) -> Vec<Bar> {
    let bar = |name: &str, ms, color| Bar { name: name.to_owned(), ms, color };
    let mut bars = vec![
        bar("mayfly run", times.warm.median(), OURS),
        bar("mayfly run --cold", times.cold.median(), OURS),
        bar("bare restore of a VM", times.floor.median(), FLOOR),
    ];
    for (other, samples) in &times.others {
        bars.push(bar(&other.label(), samples.median(), OTHER));
    }
    bars.sort_by(|one, other| one.ms.total_cmp(&other.ms));
    bars
}

fn svg(bars: Vec<Bar>) -> String {
    let slowest = bars.iter().map(|bar| bar.ms).fold(1.0, f64::max);
    // Leaves space for a value after the longest bar.
    let (least, most) = (1.0, slowest * 3.0);
    let pixels = (WIDTH - SIDES.0 - SIDES.1) / f64::log10(most / least);

    let rows = BarPlot::new().with_horizontal(true).with_width(BAR);
    let rows =
        rows.with_colored_bars(bars.iter().map(|bar| (bar.name.as_str(), bar.ms, bar.color)));
    let rows = vec![Plot::Bar(rows)];
    let mut layout = Layout::auto_from_plots(&rows)
        .with_theme(theme())
        .with_width(WIDTH)
        .with_height(ROW * bars.len() as f64 + ENDS.0 + ENDS.1)
        .with_force_margins(SIDES.0, SIDES.1)
        .with_force_margins_y(ENDS.0, ENDS.1)
        .with_log_x()
        .with_x_axis_min(least)
        .with_x_axis_max(most)
        .with_x_tick_format(TickFormat::Custom(Arc::new(time_text)))
        .with_title(TITLE)
        .with_title_size(15)
        .with_tick_size(13);
    for (row, bar) in bars.iter().enumerate() {
        let value = time_text(bar.ms);
        // Annotations are centred on their position.
        let right = GAP + CHARACTER * value.len() as f64 / 2.0;
        let x = bar.ms * f64::powf(10.0, right / pixels);
        let y = row as f64 + 1.0 - BASELINE;
        layout = layout.with_annotation(TextAnnotation::new(value, x, y).with_font_size(13));
    }
    kuva::render_to_svg(rows, layout)
}

/// A transparent background, with colours that are legible on any.
fn theme() -> Theme {
    Theme {
        background: "none".into(),
        axis_color: TEXT.into(),
        tick_color: TEXT.into(),
        text_color: TEXT.into(),
        ..Theme::light()
    }
}

/// A time with few digits and a fitting unit.
fn time_text(ms: f64) -> String {
    match ms {
        9950.0.. => format!("{:.0} s", ms / 1000.0),
        1000.0.. => format!("{:.1} s", ms / 1000.0).replace(".0 ", " "),
        _ => format!("{ms:.0} ms"),
    }
}
