//! What was denied, as lines of JSON for those who watch the VM.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::policy::DenyReason;
use crate::host::clock;

/// The same thing is reported again only after this long.
const REPEAT: Duration = Duration::from_secs(60);
/// How many reports may follow each other at once, and how many a second on average.
const BURST: f64 = 20.0;
const PER_SECOND: f64 = 2.0;
/// How many reports are remembered.
const REMEMBERED: usize = 256;
/// How often the number is written when nothing else is.
const COUNT_PERIOD: Duration = Duration::from_secs(1);

/// What a guest tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptKind {
    Tcp,
    Udp,
    Icmp,
    /// A name was looked up.
    Name,
}

/// One line of the events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkEvent {
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// How much was denied since the helper started, with everything that had no line of its own.
    pub denied: u64,
    #[serde(flatten)]
    pub attempt: Option<DeniedAttempt>,
}

/// Something that was denied. All text is printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedAttempt {
    pub kind: AttemptKind,
    /// A name or an address, with the port if there is one.
    pub to: String,
    pub reason: DenyReason,
    /// The rule that would allow it.
    pub allow: Option<String>,
}

/// Counts and reports what is denied.
#[derive(Debug)]
pub struct DenialLog {
    file: Option<File>,
    denied: u64,
    written: u64,
    tokens: f64,
    refilled: Instant,
    written_at: Instant,
    recent: HashMap<String, Instant>,
}

impl DenialLog {
    pub fn new(file: Option<File>, now: Instant) -> DenialLog {
        DenialLog {
            file,
            denied: 0,
            written: 0,
            tokens: BURST,
            refilled: now,
            written_at: now,
            recent: HashMap::new(),
        }
    }

    /// Counts a denial, and reports it unless it was reported lately or there are too many.
    pub fn deny(&mut self, attempt: DeniedAttempt, now: Instant) {
        self.denied += 1;
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * PER_SECOND).min(BURST);
        self.refilled = now;
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < REPEAT;
        if self.tokens < 1.0 || self.recent.get(&attempt.to).is_some_and(is_recent) {
            return;
        }
        self.tokens -= 1.0;
        if self.recent.len() >= REMEMBERED {
            self.recent.retain(|_, at| is_recent(at));
        }
        if self.recent.len() < REMEMBERED {
            self.recent.insert(attempt.to.clone(), now);
        }
        self.write(Some(attempt), now);
    }

    /// Writes the number if it changed without a line. Returns when it must be called again.
    pub fn count(&mut self, now: Instant) -> Option<Instant> {
        let due = self.written_at + COUNT_PERIOD;
        if self.denied != self.written && now >= due {
            self.write(None, now);
        }
        (self.denied != self.written).then_some(due)
    }

    fn write(&mut self, attempt: Option<DeniedAttempt>, now: Instant) {
        (self.written, self.written_at) = (self.denied, now);
        let Some(file) = &mut self.file else { return };
        let time = clock::unix_time().as_secs_f64();
        let event = NetworkEvent { time, denied: self.denied, attempt };
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            // A log may be full.
            let _ = file.write(&line);
        }
    }
}

/// A name as the guest spelled it, without anything that a terminal could obey.
pub fn printable(name: &str) -> String {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    name.chars().take(253).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    fn attempt(to: &str) -> DeniedAttempt {
        let (kind, reason) = (AttemptKind::Name, DenyReason::NotAllowed);
        DeniedAttempt { kind, to: to.into(), reason, allow: Some(to.into()) }
    }

    #[test]
    fn floods_are_counted_but_not_written() {
        let mut file = tempfile::tempfile().unwrap();
        let begin = Instant::now();
        let mut log = DenialLog::new(Some(file.try_clone().unwrap()), begin);
        for _ in 0..1000 {
            log.deny(attempt("same.example"), begin);
        }
        for number in 0..1000 {
            log.deny(attempt(&format!("n{number}.example")), begin);
        }
        let due = log.count(begin).unwrap();
        assert_eq!(log.count(due), None);
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let events: Vec<NetworkEvent> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 21);
        assert_eq!(events[0].attempt, Some(attempt("same.example")));
        assert_eq!((events[20].denied, &events[20].attempt), (2000, &None));
        log.deny(attempt("same.example"), begin + REPEAT);
        assert_eq!(log.written, 2001);
    }

    #[test]
    fn names_are_printable() {
        assert_eq!(printable("a\u{1b}[31m\u{202e}b\n"), "a?[31m?b?");
    }
}
