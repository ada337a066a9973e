//! Telling the user of a command what its VM is denied on the network.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::host::file_watch::FileWatch;
use crate::host::log::LogReader;
use crate::lifecycle::observe::{NetworkLogLine, NetworkLogParser};

/// How many lines are told again after a command that had the terminal.
const MOST_LINES: usize = 10;

/// How denials are told while a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialNotes {
    Silent,
    Plain,
    /// With the name of the VM, for commands in several VMs.
    Named,
}

/// The denials of a VM since a command began. The helper writes of one before it answers the guest, so what is read
/// after the command's end is complete.
#[derive(Debug)]
pub struct DenialWatch {
    path: PathBuf,
    /// What each line begins with.
    prefix: String,
    /// Where to read about them later.
    pointer: String,
    /// `None` if this user watches too many files; then they are told after the command.
    watch: Option<FileWatch>,
    log: RefCell<(Option<LogReader>, NetworkLogParser)>,
    told: Cell<bool>,
    /// How many were denied that the log only counts.
    counted: Cell<u64>,
}

impl DenialWatch {
    /// Watches the log at `path` from its present end. `kept` says whether the VM outlives the command.
    pub fn begin(path: &Path, name: &str, notes: DenialNotes, kept: bool) -> Option<DenialWatch> {
        let prefix = match notes {
            DenialNotes::Silent => return None,
            DenialNotes::Plain => "mayfly: ".into(),
            DenialNotes::Named => format!("mayfly: VM {name}: "),
        };
        let pointer =
            if kept { format!(": 'mayfly logs --net {name}' shows all") } else { String::new() };
        let watch = FileWatch::new().ok().filter(|watch| watch.writes(path).is_ok());
        let (path, log) = (path.to_owned(), RefCell::default());
        let (told, counted) = (Cell::new(false), Cell::new(0));
        let denials = DenialWatch { path, prefix, pointer, watch, log, told, counted };
        denials.read();
        Some(denials)
    }

    /// Readable when there may be news.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// What was denied since the last call, a line each.
    pub fn news(&self) -> Vec<String> {
        if let Some(watch) = &self.watch {
            // What is in the log is read either way.
            let _ = watch.wait(&[], None, Some(Instant::now()));
        }
        let mut news = Vec::new();
        for line in self.read() {
            match line {
                NetworkLogLine::Denied(report) => {
                    news.push(format!("{}{}", self.prefix, report.sentence()));
                }
                NetworkLogLine::More { count, .. } => self.counted.set(self.counted.get() + count),
                NetworkLogLine::Text(_) => {}
            }
        }
        self.told.set(self.told.get() || !news.is_empty());
        news
    }

    /// What to tell after the command: what was `shown` only for a moment, and what is new.
    pub fn conclusion(&self, shown: Vec<String>) -> Vec<String> {
        let mut lines = shown;
        lines.extend(self.news());
        if !self.told.get() && self.counted.get() > 0 {
            lines.push(format!("{}denied what was denied before{}", self.prefix, self.pointer));
        }
        let more = lines.len().saturating_sub(MOST_LINES);
        if more > 0 {
            lines.truncate(MOST_LINES);
            lines.push(format!("{}denied {more} more{}", self.prefix, self.pointer));
        }
        lines
    }

    fn read(&self) -> Vec<NetworkLogLine> {
        let mut log = self.log.borrow_mut();
        let (reader, parser) = &mut *log;
        if reader.is_none() {
            *reader = LogReader::open(&self.path).ok().flatten();
        }
        let mut lines = Vec::new();
        // A log that cannot be read must not end the command.
        while let Some(piece) = reader.as_mut().and_then(|reader| reader.read().ok()) {
            if piece.is_empty() {
                break;
            }
            lines.extend(parser.lines(&piece));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;

    use super::*;

    fn event(denied: u64, to: Option<&str>) -> String {
        let attempt = to.map(|to| {
            format!(r#","kind":"tcp","to":"{to}","reason":"not_allowed","allow":"{to}""#)
        });
        format!("{{\"time\":1.0,\"denied\":{denied}{}}}\n", attempt.unwrap_or_default())
    }

    fn begin(log: &str, notes: DenialNotes) -> (tempfile::TempDir, File, Option<DenialWatch>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.log");
        std::fs::write(&path, log).unwrap();
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        let denials = DenialWatch::begin(&path, "box", notes, true);
        (dir, writer, denials)
    }

    #[test]
    fn only_what_is_denied_during_the_command_is_told() {
        let before = event(1, Some("a.example:80"));
        let (_dir, mut writer, denials) = begin(&before, DenialNotes::Plain);
        let denials = denials.unwrap();
        assert!(denials.news().is_empty());
        writer.write_all(event(2, Some("b.example:80")).as_bytes()).unwrap();
        let told = ["mayfly: denied b.example:80; allow it with --allow b.example:80"];
        assert_eq!(denials.news(), told);
        writer.write_all(event(9, None).as_bytes()).unwrap();
        assert!(denials.conclusion(Vec::new()).is_empty(), "it was told that things are denied");
        assert!(begin(&before, DenialNotes::Silent).2.is_none());
    }

    #[test]
    fn what_the_log_only_counts_is_told_if_nothing_else_was() {
        let (_dir, mut writer, denials) =
            begin(&event(1, Some("a.example:80")), DenialNotes::Named);
        writer.write_all(event(3, None).as_bytes()).unwrap();
        let expected =
            "mayfly: VM box: denied what was denied before: 'mayfly logs --net box' shows all";
        assert_eq!(denials.unwrap().conclusion(Vec::new()), [expected]);
    }

    #[test]
    fn a_session_ends_with_a_few_lines() {
        let (_dir, mut writer, denials) = begin("", DenialNotes::Plain);
        for number in 1..=12 {
            writer.write_all(event(number, Some(&format!("n{number}:80"))).as_bytes()).unwrap();
        }
        let denials = denials.unwrap();
        let shown = denials.news();
        assert_eq!(shown.len(), 12);
        let lines = denials.conclusion(shown);
        assert_eq!(lines.len(), MOST_LINES + 1);
        assert_eq!(lines[10], "mayfly: denied 2 more: 'mayfly logs --net box' shows all");
    }
}
