//! Colours, where a person looks and wants them. They only repeat what the text says.

use std::fmt::Display;
use std::io::{stderr, stdout};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// When to print in colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal that can, unless NO_COLOR or CLICOLOR=0 is set; CLICOLOR_FORCE stands for a terminal.
    #[default]
    Auto,
    /// Wherever the output goes.
    Always,
    /// Nowhere.
    Never,
}

impl Color {
    fn paint(self, stream: &impl RawStream) -> Paint {
        Paint(match self {
            Color::Auto => AutoStream::choice(stream) != ColorChoice::Never,
            Color::Always => true,
            Color::Never => false,
        })
    }

    pub fn on_stdout(self) -> Paint {
        self.paint(&stdout())
    }

    pub fn on_stderr(self) -> Paint {
        self.paint(&stderr())
    }
}

/// For the parser's own help.
impl From<Color> for clap::ColorChoice {
    fn from(color: Color) -> clap::ColorChoice {
        match color {
            Color::Auto => clap::ColorChoice::Auto,
            Color::Always => clap::ColorChoice::Always,
            Color::Never => clap::ColorChoice::Never,
        }
    }
}

/// Whether one stream gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Doubtful,
    Bad,
    Advice,
}

impl Tone {
    /// Colours of the terminal's own palette, which its user has made legible.
    fn color(self) -> AnsiColor {
        match self {
            Tone::Good => AnsiColor::Green,
            Tone::Doubtful => AnsiColor::Yellow,
            Tone::Bad => AnsiColor::Red,
            Tone::Advice => AnsiColor::Cyan,
        }
    }
}

impl Paint {
    /// The text in its tone, or as it is where there are no colours.
    pub fn paint(self, tone: Tone, text: impl Display) -> String {
        let style = match self.0 {
            true => Style::new().bold().fg_color(Some(tone.color().into())),
            false => Style::new(),
        };
        format!("{style}{text}{style:#}")
    }
}
