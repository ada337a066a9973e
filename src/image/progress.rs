//! How long work reports its progress, and how the caller cancels it.

/// The caller's side of building an image.
pub trait ProgressSink {
    /// A new phase begins; `index` counts from 1 to `total`.
    fn phase(&mut self, name: &str, index: usize, total: usize);

    /// What the phase is doing: a few words that replace the last ones.
    fn detail(&mut self, text: &str);

    /// A line that stays, such as what the command waits for.
    fn note(&mut self, line: &str);

    /// Whether to give up: called several times a second, true after SIGINT or SIGTERM. The work then
    /// deletes what it made and fails with [`crate::host::tool::ToolInterrupted`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentProgress;

impl ProgressSink for SilentProgress {
    fn phase(&mut self, _: &str, _: usize, _: usize) {}
    fn detail(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
}

/// Collects plain lines, for tests.
#[derive(Debug, Clone, Default)]
pub struct ProgressLines(pub Vec<String>);

impl ProgressSink for ProgressLines {
    fn phase(&mut self, name: &str, index: usize, total: usize) {
        self.0.push(format!("[{index}/{total}] {name}"));
    }

    fn detail(&mut self, text: &str) {
        self.0.push(format!("  {text}"));
    }

    fn note(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}
