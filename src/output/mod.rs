//! Writing to standard output and standard error, which only this module does.
//!
//! Data goes to stdout, everything else to stderr. Text that a guest or a file could have chosen is escaped
//! ([`escape()`]). Only the output of a command in a guest is passed on raw, by other modules.

mod answer;
mod color;
mod copying;
mod escape;
mod failure;
mod foreign;
mod lines;
mod printer;
mod progress;
mod screen;
mod table;
mod usage;
mod view;

pub use answer::ExecAnswer;
pub use color::ColorMode;
pub use copying::CopyProgress;
pub use escape::escape;
pub use failure::{ErrorReport, MAYFLY_FAILED};
pub use foreign::ForeignText;
pub use lines::{PrefixedLines, SharedStream, WritePatience};
pub use printer::{PrintStyle, Printer};
pub use progress::BuildProgress;
pub use screen::TerminalScreen;
pub use table::{
    checks_table, images_table, profiles_table, settings_table, status_text, templates_table,
};
pub use view::{CopyView, ImageView, LogView, TemplateView, VmView};
