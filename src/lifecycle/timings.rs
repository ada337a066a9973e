//! How long each phase of an operation took.

use std::time::Instant;

use serde::Serialize;
use serde::ser::SerializeMap;

/// Phases in the order in which they ended, with their milliseconds.
#[derive(Debug, Clone)]
pub struct PhaseTimings {
    phases: Vec<(&'static str, f64)>,
    since: Instant,
}

impl PhaseTimings {
    /// Starts the first phase.
    pub fn begin() -> Self {
        PhaseTimings { phases: Vec::new(), since: Instant::now() }
    }

    /// Ends a phase; the next one begins now.
    pub fn end(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.phases.push((phase, now.duration_since(self.since).as_secs_f64() * 1000.0));
        self.since = now;
    }

    pub fn phases(&self) -> &[(&'static str, f64)] {
        &self.phases
    }
}

impl Serialize for PhaseTimings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.phases.len()))?;
        for (phase, milliseconds) in &self.phases {
            // Rounded to microseconds; the clocks are not more precise.
            map.serialize_entry(phase, &((milliseconds * 1000.0).round() / 1000.0))?;
        }
        map.end()
    }
}
