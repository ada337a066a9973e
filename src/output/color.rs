//! Colours, which only repeat what the text says.

use std::fmt::Display;
use std::io::{stderr, stdout};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// When to print in colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorMode {
    /// On a terminal with colours, unless NO_COLOR or CLICOLOR=0 is set; anywhere if CLICOLOR_FORCE is set
    #[default]
    Auto,
    /// Everywhere, even in files and pipes
    Always,
    /// Nowhere
    Never,
}

impl ColorMode {
    fn paint(self, stream: &impl RawStream) -> StreamColor {
        StreamColor(match self {
            ColorMode::Auto => AutoStream::choice(stream) != ColorChoice::Never,
            ColorMode::Always => true,
            ColorMode::Never => false,
        })
    }

    pub fn on_stdout(self) -> StreamColor {
        self.paint(&stdout())
    }

    pub fn on_stderr(self) -> StreamColor {
        self.paint(&stderr())
    }
}

/// For the help and errors of the parser.
impl From<ColorMode> for clap::ColorChoice {
    fn from(color: ColorMode) -> clap::ColorChoice {
        match color {
            ColorMode::Auto => clap::ColorChoice::Auto,
            ColorMode::Always => clap::ColorChoice::Always,
            ColorMode::Never => clap::ColorChoice::Never,
        }
    }
}

/// Whether a stream gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamColor(bool);

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextTone {
    Good,
    Caution,
    Bad,
    Advice,
}

impl TextTone {
    /// From the terminal's own palette, which its user can set up to be legible.
    fn color(self) -> AnsiColor {
        match self {
            TextTone::Good => AnsiColor::Green,
            TextTone::Caution => AnsiColor::Yellow,
            TextTone::Bad => AnsiColor::Red,
            TextTone::Advice => AnsiColor::Cyan,
        }
    }
}

impl StreamColor {
    /// The parser's own text, with its colours or without.
    pub fn styled(self, text: &clap::builder::StyledStr) -> String {
        if self.0 { text.ansi().to_string() } else { text.to_string() }
    }

    /// The text in the colour for `tone`, or unchanged if the stream gets no colours.
    pub fn paint(self, tone: TextTone, text: impl Display) -> String {
        let coloured = || Style::new().bold().fg_color(Some(tone.color().into()));
        let style = if self.0 { coloured() } else { Style::new() };
        format!("{style}{text}{style:#}")
    }
}
