//! What fresh environments cost, as a picture: bars on a logarithmic scale, an SVG file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use kuva::plot::BarPlot;
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;

use crate::warm::Costs;

/// Greys and blues that can be read on white and on black: a README is shown on either.
const TEXT: &str = "#757d88";
const OURS: &str = "#2f81f7";
const FLOOR: &str = "#85b0e6";
const OTHER: &str = "#949ca6";

const TITLE: &str = "Time to run true in something fresh, on a logarithmic scale";

/// The picture in pixels; the plot itself is what the margins leave.
const WIDTH: f64 = 760.0;
const SIDES: (f64, f64) = (200.0, 12.0);
const ENDS: (f64, f64) = (42.0, 30.0);
const ROW: f64 = 34.0;

/// Pixels between a bar and its value, and of one of the value's characters.
const GAP: f64 = 6.0;
const CHARACTER: f64 = 7.8;

/// How much of a row is bar, and how far below its middle letters stand so that they are in it.
const BAR: f64 = 0.62;
const BASELINE: f64 = 0.3;

struct Bar {
    name: String,
    ms: f64,
    color: &'static str,
}

/// Writes the picture to `file`.
pub fn draw(costs: &Costs, file: &Path) -> Result<()> {
    let write = || {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        fs::write(file, svg(bars(costs)) + "\n")
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    println!("drawn in {}", file.display());
    Ok(())
}

/// The slowest last: they are drawn from the bottom up.
fn bars(costs: &Costs) -> Vec<Bar> {
    let bar = |name: &str, ms, color| Bar { name: name.to_owned(), ms, color };
    let mut bars = vec![
        bar("mayfly run", costs.warm.median(), OURS),
        bar("mayfly run --cold", costs.cold.median(), OURS),
        bar("bare restore of a VM", costs.floor.median(), FLOOR),
    ];
    for (other, samples) in &costs.others {
        bars.push(bar(&other.label(), samples.median(), OTHER));
    }
    bars.sort_by(|one, other| one.ms.total_cmp(&other.ms));
    bars
}

fn svg(bars: Vec<Bar>) -> String {
    let slowest = bars.iter().map(|bar| bar.ms).fold(1.0, f64::max);
    // Room for a value behind the longest bar.
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
        .with_x_tick_format(TickFormat::Custom(Arc::new(said)))
        .with_title(TITLE)
        .with_title_size(15)
        .with_tick_size(13);
    for (row, bar) in bars.iter().enumerate() {
        let value = said(bar.ms);
        // The middle of the text is at this place.
        let right = GAP + CHARACTER * value.len() as f64 / 2.0;
        let x = bar.ms * f64::powf(10.0, right / pixels);
        let y = row as f64 + 1.0 - BASELINE;
        layout = layout.with_annotation(TextAnnotation::new(value, x, y).with_font_size(13));
    }
    kuva::render_to_svg(rows, layout)
}

/// On whatever the page is.
fn theme() -> Theme {
    Theme {
        background: "none".into(),
        axis_color: TEXT.into(),
        tick_color: TEXT.into(),
        text_color: TEXT.into(),
        ..Theme::light()
    }
}

/// A time as people say it.
fn said(ms: f64) -> String {
    match ms {
        9950.0.. => format!("{:.0} s", ms / 1000.0),
        1000.0.. => format!("{:.1} s", ms / 1000.0).replace(".0 ", " "),
        _ => format!("{ms:.0} ms"),
    }
}
