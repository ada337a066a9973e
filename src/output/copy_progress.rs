//! Progress of a copy on a terminal: amount, speed and time left.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::escape::escape;
use super::printer::Printer;
use crate::archive::CopyObserver;

/// While the size is not known.
const UNKNOWN: &str = "{spinner} {prefix} {bytes} {bytes_per_sec}";

/// When the size is known.
const KNOWN: &str = "{prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";

/// A bar on standard error, or nothing if that is not a terminal.
#[derive(Debug)]
pub struct CopyProgress(Option<ProgressBar>);

impl CopyProgress {
    /// `what` is the source of the copy.
    pub fn new(printer: Printer, what: &str) -> CopyProgress {
        CopyProgress(printer.is_watched().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(UNKNOWN));
            bar.set_prefix(escape(what));
            bar
        }))
    }
}

impl CopyObserver for CopyProgress {
    fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    fn total(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_style(style(KNOWN));
            bar.set_length(bytes);
        }
    }

    fn moved(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }
}

impl Drop for CopyProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    style.progress_chars("=> ")
}
