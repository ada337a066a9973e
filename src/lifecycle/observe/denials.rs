//! The log of a VM's network: what was denied, and what the helper said at its end.

use crate::network::denials::{AttemptKind, DeniedAttempt, NetworkEvent};
use crate::network::policy::DenyReason;
use crate::network::special::SpecialRange;

/// A line of the log. Its texts are those of a process that faces the guest: escape them before printing.
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkLogLine {
    Denied(DenialReport),
    /// So much was denied without a line of its own until this time, as it was like what was reported before or there
    /// was too much of it.
    More {
        time: f64,
        count: u64,
    },
    /// What is no report.
    Text(String),
}

/// Something that was denied.
#[derive(Debug, Clone, PartialEq)]
pub struct DenialReport {
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// `tcp`, `udp`, `icmp`, or `name` for the look-up of a name.
    pub kind: &'static str,
    /// A name or an address, with the port if there is one.
    pub to: String,
    /// Why, as a word.
    pub reason: &'static str,
    /// Why, for people; empty if no rule allows it.
    pub why: &'static str,
    /// The rule that would allow it.
    pub allow: Option<String>,
}

impl DenialReport {
    fn new(time: f64, attempt: DeniedAttempt) -> DenialReport {
        let DeniedAttempt { kind, to, reason, allow } = attempt;
        let kind = match kind {
            AttemptKind::Tcp => "tcp",
            AttemptKind::Udp => "udp",
            AttemptKind::Icmp => "icmp",
            AttemptKind::Name => "name",
        };
        let (reason, why) = words(reason);
        DenialReport { time, kind, to, reason, why, allow }
    }

    /// What was denied, why, and how to allow it.
    pub fn sentence(&self) -> String {
        let DenialReport { to, why, .. } = self;
        let what = match self.kind {
            "udp" => format!("denied {to} (UDP)"),
            "icmp" => format!("denied a ping of {to}: only TCP and UDP leave a VM"),
            "name" => format!("denied looking up {to}"),
            _ => format!("denied {to}"),
        };
        let why = if why.is_empty() { String::new() } else { format!(", {why}") };
        let allow = self.allow.as_ref();
        let allow = allow.map(|rule| format!("; allow it with --allow {rule}")).unwrap_or_default();
        format!("{what}{why}{allow}")
    }
}

/// A reason as a word, and as people read it after what was denied.
fn words(reason: DenyReason) -> (&'static str, &'static str) {
    match reason {
        DenyReason::NotAllowed => ("not_allowed", ""),
        DenyReason::OwnAddress => ("own_address", "an address of this host"),
        DenyReason::NextDoor => ("next_door", "an address in this host's network"),
        DenyReason::NameOfDenied => {
            ("name_of_denied", "whose addresses are all private, local or this host's")
        }
        DenyReason::Special(range) => match range {
            SpecialRange::Loopback => ("loopback", "a loopback address"),
            SpecialRange::Private => ("private", "a private address"),
            SpecialRange::LinkLocal => ("link_local", "an address of links and metadata services"),
            SpecialRange::Multicast => ("multicast", "a multicast address"),
            SpecialRange::EncodedV4 => ("encoded_v4", "an IPv4 address in an IPv6 address"),
            SpecialRange::Reserved => ("reserved", "a reserved address"),
        },
    }
}

/// Reads the log of a network in pieces.
#[derive(Debug, Default)]
pub struct NetworkLogParser {
    /// The beginning of a line whose end was not read.
    partial: Vec<u8>,
    /// The last count.
    denied: u64,
}

impl NetworkLogParser {
    /// The lines that end in this piece.
    pub fn lines(&mut self, piece: &[u8]) -> Vec<NetworkLogLine> {
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend(piece);
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            found.extend(self.line(&rest[..end]));
            rest = &rest[end + 1..];
        }
        self.partial = rest.to_vec();
        found
    }

    /// A last line that has no end.
    pub fn rest(&mut self) -> Vec<NetworkLogLine> {
        let line = std::mem::take(&mut self.partial);
        if line.is_empty() { Vec::new() } else { self.line(&line) }
    }

    fn line(&mut self, line: &[u8]) -> Vec<NetworkLogLine> {
        let Ok(event) = serde_json::from_slice::<NetworkEvent>(line) else {
            return vec![NetworkLogLine::Text(String::from_utf8_lossy(line).into_owned())];
        };
        let NetworkEvent { time, denied, attempt } = event;
        // A helper that took over counts from the beginning.
        let new = denied.checked_sub(self.denied).unwrap_or(denied);
        self.denied = denied;
        let count = new.saturating_sub(attempt.is_some().into());
        let more = (count > 0).then_some(NetworkLogLine::More { time, count });
        let denied =
            attempt.map(|attempt| NetworkLogLine::Denied(DenialReport::new(time, attempt)));
        more.into_iter().chain(denied).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"time":1.5,"denied":1,"kind":"tcp","to":"a.example:443","reason":"not_allowed","allow":"a.example:443"}"#;

    #[test]
    fn lines_are_read_in_any_pieces() {
        let last = r#"{"time":3.0,"denied":9,"kind":"udp","to":"10.0.0.1:53","reason":{"special":"private"},"allow":"10.0.0.1:53"}"#;
        let log =
            format!("{FIRST}\n{{\"time\":2.0,\"denied\":4}}\nended: \u{1b}[31m\n{last}\nrest");
        let report = |time, kind, to: &str, reason, why| {
            let (to, allow) = (to.to_owned(), Some(to.to_owned()));
            NetworkLogLine::Denied(DenialReport { time, kind, to, reason, why, allow })
        };
        let expected = [
            report(1.5, "tcp", "a.example:443", "not_allowed", ""),
            NetworkLogLine::More { time: 2.0, count: 3 },
            NetworkLogLine::Text("ended: \u{1b}[31m".into()),
            NetworkLogLine::More { time: 3.0, count: 4 },
            report(3.0, "udp", "10.0.0.1:53", "private", "a private address"),
            NetworkLogLine::Text("rest".into()),
        ];
        for size in [1, 7, log.len()] {
            let mut parser = NetworkLogParser::default();
            let mut found: Vec<_> =
                log.as_bytes().chunks(size).flat_map(|piece| parser.lines(piece)).collect();
            found.extend(parser.rest());
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn a_helper_that_took_over_counts_anew() {
        let mut parser = NetworkLogParser::default();
        parser.lines(b"{\"time\":1.0,\"denied\":7}\n");
        let found = parser.lines(b"{\"time\":2.0,\"denied\":2}\n");
        assert_eq!(found, [NetworkLogLine::More { time: 2.0, count: 2 }]);
    }

    #[test]
    fn sentences_lead_to_the_rule() {
        let sentence = |kind, to: &str, reason, allow: bool| {
            let allow = allow.then(|| to.to_owned());
            let attempt = DeniedAttempt { kind, to: to.into(), reason, allow };
            DenialReport::new(0.0, attempt).sentence()
        };
        for (kind, to, reason, expected) in [
            (
                AttemptKind::Tcp,
                "example.org:443",
                DenyReason::NotAllowed,
                "denied example.org:443; allow it with --allow example.org:443",
            ),
            (
                AttemptKind::Udp,
                "10.0.0.1:53",
                DenyReason::Special(SpecialRange::Private),
                "denied 10.0.0.1:53 (UDP), a private address; allow it with --allow 10.0.0.1:53",
            ),
            (
                AttemptKind::Name,
                "example.org",
                DenyReason::NotAllowed,
                "denied looking up example.org; allow it with --allow example.org",
            ),
        ] {
            assert_eq!(sentence(kind, to, reason, true), expected);
        }
        let ping = sentence(AttemptKind::Icmp, "192.0.2.1", DenyReason::NotAllowed, false);
        assert_eq!(ping, "denied a ping of 192.0.2.1: only TCP and UDP leave a VM");
    }
}
