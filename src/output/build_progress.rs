//! Progress of an image build: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::escape::escape;
use super::printer::Printer;
use crate::host::signals::PendingSignals;
use crate::image::ProgressSink;

/// Shows the phases of a build.
#[derive(Debug)]
pub struct BuildProgress<'a> {
    printer: Printer,
    /// A pending signal cancels the build.
    signals: &'a PendingSignals,
    bar: Option<ProgressBar>,
}

impl<'a> BuildProgress<'a> {
    pub fn new(printer: Printer, signals: &'a PendingSignals) -> Self {
        BuildProgress { printer, signals, bar: None }
    }

    /// The bar, created when it is first needed; `None` if standard error cannot overwrite lines.
    fn bar(&mut self, total: usize) -> Option<&ProgressBar> {
        if !self.printer.can_redraw() {
            return None;
        }
        Some(self.bar.get_or_insert_with(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{spinner} [{pos}/{len}] {prefix} {wide_msg} {elapsed}",
            );
            bar.set_style(style.expect("the template is valid"));
            bar
        }))
    }
}

impl ProgressSink for BuildProgress<'_> {
    fn phase(&mut self, name: &str, index: usize, total: usize) {
        match self.bar(total) {
            Some(bar) => {
                bar.set_position(index as u64);
                bar.set_prefix(escape(name));
                bar.set_message("");
            }
            None => self.printer.note(&format!("mayfly: [{index}/{total}] {name}")),
        }
    }

    fn detail(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(escape(text));
        }
    }

    fn note(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("mayfly: {}", escape(line))),
            None => self.printer.note(&format!("mayfly: {line}")),
        }
    }

    fn cancelled(&self) -> bool {
        // Asked several times a second. A thread that moves the bar might not start.
        if let Some(bar) = &self.bar {
            bar.tick();
        }
        self.signals.pending()
    }
}

impl Drop for BuildProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
