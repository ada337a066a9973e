//! The log of a VM's network, as `logs --net` prints it.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::escape::escape;
use crate::lifecycle::{DenialReport, NetworkLogLine};

/// An entry of the log of a VM's network. Fields that do not apply are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NetworkEntryView {
    /// Seconds since the Unix epoch.
    time: Option<f64>,
    /// How many attempts were denied: 1, or more if they have no entries of their own.
    denied: u64,
    /// `tcp`, `udp`, `icmp`, or `name` for the look-up of a name.
    kind: Option<&'static str>,
    /// The name or address that was denied, with the port if there is one.
    to: Option<String>,
    /// Why: `not_allowed`, `own_address`, `next_door`, `name_of_denied`, or the kind of address, such as `private`.
    reason: Option<&'static str>,
    /// The rule of `--allow` that would allow it.
    allow: Option<String>,
    /// What the helper process said.
    text: Option<String>,
}

impl From<NetworkLogLine> for NetworkEntryView {
    fn from(line: NetworkLogLine) -> Self {
        let empty = NetworkEntryView {
            time: None,
            denied: 0,
            kind: None,
            to: None,
            reason: None,
            allow: None,
            text: None,
        };
        match line {
            NetworkLogLine::Denied(DenialReport { time, kind, to, reason, allow, .. }) => {
                NetworkEntryView {
                    time: Some(time),
                    denied: 1,
                    kind: Some(kind),
                    to: Some(to),
                    reason: Some(reason),
                    allow,
                    ..empty
                }
            }
            NetworkLogLine::More { time, count } => {
                NetworkEntryView { time: Some(time), denied: count, ..empty }
            }
            NetworkLogLine::Text(text) => NetworkEntryView { text: Some(text), ..empty },
        }
    }
}

/// The same for people, as a line.
pub fn network_log_line(line: &NetworkLogLine) -> String {
    let at = |unix: f64| {
        let since = Duration::try_from_secs_f64(unix).unwrap_or_default();
        let time = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
        humantime::format_rfc3339_seconds(time)
    };
    escape(&match line {
        NetworkLogLine::Denied(report) => format!("{} {}", at(report.time), report.sentence()),
        NetworkLogLine::More { time, count } => {
            format!("{} denied {count} more, repeated or too many to list", at(*time))
        }
        NetworkLogLine::Text(text) => text.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_controls_a_terminal_and_any_time_is_printed() {
        let text = NetworkLogLine::Text("\u{1b}[31mred\r".into());
        assert!(!network_log_line(&text).contains(['\u{1b}', '\r']));
        for time in [f64::MAX, -1.0, 0.0] {
            let line = network_log_line(&NetworkLogLine::More { time, count: 2 });
            assert!(line.ends_with("Z denied 2 more, repeated or too many to list"), "{line}");
        }
    }
}
