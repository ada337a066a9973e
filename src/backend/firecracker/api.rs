//! Talking to Firecracker itself: HTTP over a Unix socket in its home
//! (`src/firecracker/swagger/firecracker.yaml` of Firecracker).
//!
//! The VMM is not trusted: what it answers is bounded in size and time, and its socket is checked. There
//! is one conversation with it. The socket's name is gone as soon as that has begun, so that nobody can
//! begin another.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::sys::poll::PollFlags;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::host::socket;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};

/// Between two tries to connect. A VMM needs some milliseconds before it listens, and nothing tells that
/// it does.
const PAUSE: Duration = Duration::from_millis(1);

/// The longest answer, in bytes. Firecracker's are some hundred.
const LONGEST: usize = 1 << 14;

/// Header lines of an answer. Firecracker sends four.
const HEADERS: usize = 16;

/// Characters of what Firecracker says against a request that an error repeats.
const REASON: usize = 400;

/// One thing to be done.
#[derive(Debug, Clone, Copy)]
pub struct ApiRequest<B> {
    pub method: &'static str,
    pub path: &'static str,
    pub body: B,
    /// What an error says was asked for: "to …".
    pub purpose: &'static str,
}

/// A conversation with one Firecracker.
#[derive(Debug)]
pub struct ApiClient<'a, 'w> {
    stream: UnixStream,
    wait: &'a mut WaitLimit<'w>,
}

impl<'a, 'w> ApiClient<'a, 'w> {
    /// Waits for Firecracker to listen at `path`, and takes the socket's name away. `owner` is the user
    /// it runs as.
    ///
    /// # Errors
    /// `Host` if something else is there; those of [`WaitLimit::ready`].
    pub fn open(path: &Path, owner: u32, wait: &'a mut WaitLimit<'w>) -> Result<Self> {
        let stream = loop {
            if let Some(stream) = socket::connect_to(path, owner)? {
                break stream;
            }
            wait.pause(PAUSE, "Firecracker to listen")?;
        };
        std::fs::remove_file(path).context("cannot take Firecracker's socket away")?;
        stream.set_nonblocking(true)?;
        Ok(ApiClient { stream, wait })
    }

    /// The same, allowing this much longer.
    pub fn extend(&mut self, by: Duration) {
        self.wait.deadline += by;
    }

    /// Has something done.
    ///
    /// # Errors
    /// `Host` with Firecracker's reason, or for an answer that is none; those of [`WaitLimit::ready`].
    pub fn ask<B: Serialize>(&mut self, request: &ApiRequest<B>) -> Result<()> {
        let purpose = request.purpose;
        self.say(&encode(request)?, purpose)?;
        let answer = self.hear(purpose)?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(refused(purpose, status, &answer.body)),
        }
    }

    fn say(&mut self, mut bytes: &[u8], purpose: &str) -> Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => self.bear(error, PollFlags::POLLOUT, purpose)?,
            }
        }
        Ok(())
    }

    fn hear(&mut self, purpose: &str) -> Result<Answer> {
        let mut heard = Vec::new();
        loop {
            if let Some(answer) = Answer::parse(&heard)? {
                return Ok(answer);
            }
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(hung_up(purpose)),
                Ok(count) if heard.len() + count > LONGEST => return Err(nonsense()),
                Ok(count) => heard.extend(&part[..count]),
                Err(error) => self.bear(error, PollFlags::POLLIN, purpose)?,
            }
        }
    }

    /// Waits where an error only means that it is too early.
    fn bear(&mut self, error: std::io::Error, events: PollFlags, purpose: &str) -> Result<()> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            ErrorKind::WouldBlock => {
                let what = format!("Firecracker {purpose}");
                self.wait.ready(self.stream.as_fd(), events, None, &what).map(drop)
            }
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Err(hung_up(purpose)),
            _ => Err(error).context("cannot talk to Firecracker"),
        }
    }
}

fn encode<B: Serialize>(request: &ApiRequest<B>) -> Result<Vec<u8>> {
    let ApiRequest { method, path, body, .. } = request;
    let body = serde_json::to_string(body)?;
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    Ok(text.into_bytes())
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Reads an answer; `None` if its end has not come yet.
    fn parse(heard: &[u8]) -> Result<Option<Answer>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(parsed) = head.parse(heard) else { return Err(nonsense()) };
        let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
        let status = head.code.ok_or_else(nonsense)?;
        let length =
            head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = match length {
            Some(header) => {
                let text = std::str::from_utf8(header.value).map_err(|_| nonsense())?;
                text.parse::<usize>().map_err(|_| nonsense())?
            }
            None => 0,
        };
        if length > LONGEST {
            return Err(nonsense());
        }
        let body = heard.get(begin..begin + length);
        Ok(body.map(|body| Answer { status, body: body.to_vec() }))
    }
}

/// How Firecracker says why not.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

fn refused(purpose: &str, status: u16, body: &[u8]) -> anyhow::Error {
    let reason = match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => fault.fault_message.trim().chars().take(REASON).collect(),
        Err(_) => format!("HTTP status {status}"),
    };
    host(format!("Firecracker refuses {purpose}: {reason}"))
}

fn hung_up(purpose: &str) -> anyhow::Error {
    host(format!("Firecracker hung up when it was asked {purpose}"))
}

fn nonsense() -> anyhow::Error {
    host("Firecracker answers nonsense at its API".to_owned())
}

fn host(message: String) -> anyhow::Error {
    Refusal::new(RefusalKind::Host, message).into()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread::spawn;

    use nix::unistd::geteuid;

    use super::*;

    const REQUEST: ApiRequest<&str> =
        ApiRequest { method: "PUT", path: "/thing", body: "a body", purpose: "to do a thing" };

    /// What comes of asking twice something that answers like a VMM: these parts to the first request,
    /// and to the second that it is well. It listens late.
    fn ask(parts: &[&str]) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
        let there = path.clone();
        let vmm = spawn(move || {
            let listener = UnixListener::bind(there).unwrap();
            let (mut client, _) = listener.accept().unwrap();
            let mut heard = BufReader::new(client.try_clone().unwrap());
            let done = vec!["HTTP/1.1 204 \r\n\r\n".to_owned()];
            for parts in [parts, done] {
                let mut line = String::new();
                let mut head = Vec::new();
                while heard.read_line(&mut line).is_ok_and(|count| count > 2) {
                    head.push(std::mem::take(&mut line));
                }
                if head.is_empty() {
                    return;
                }
                assert_eq!(head[0], "PUT /thing HTTP/1.1\r\n");
                assert_eq!(head.last().unwrap(), "Content-Length: 8\r\n");
                let mut body = [0; 8];
                heard.read_exact(&mut body).unwrap();
                assert_eq!(&body, b"\"a body\"");
                if parts.is_empty() {
                    return;
                }
                // Whoever has heard enough hangs up.
                if parts.iter().any(|part| client.write_all(part.as_bytes()).is_err()) {
                    return;
                }
            }
        });
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        let mut vmm_heard = || {
            let mut conversation = ApiClient::open(&path, geteuid().as_raw(), &mut wait)?;
            assert!(!path.exists());
            conversation.ask(&REQUEST)?;
            conversation.ask(&REQUEST)
        };
        let asked = vmm_heard();
        vmm.join().unwrap();
        asked
    }

    fn refusal(parts: &[&str]) -> String {
        let error = ask(parts).unwrap_err();
        let refusal = Refusal::find(&error).unwrap_or_else(|| panic!("{error:#}"));
        assert_eq!(refusal.kind, RefusalKind::Host);
        refusal.message.clone()
    }

    #[test]
    fn each_request_waits_for_its_whole_answer() {
        ask(&["HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"])
            .unwrap();
        ask(&["HTTP/1.1 20", "0 OK\r\nContent-Len", "gth: 11\r\n\r\nhello ", "world"]).unwrap();
    }

    #[test]
    fn firecrackers_own_reason_is_given() {
        let body = r#"{"fault_message":"Load snapshot error: no\nsuch thing"}"#;
        let answer = format!("HTTP/1.1 400 \r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(
            refusal(&[&answer]),
            "Firecracker refuses to do a thing: Load snapshot error: no\nsuch thing"
        );
        let other = "HTTP/1.1 500 \r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(refusal(&[other]), "Firecracker refuses to do a thing: HTTP status 500");
        let body = format!(r#"{{"fault_message":"{}"}}"#, "x".repeat(9000));
        let long = format!("HTTP/1.1 400 \r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(refusal(&[&long]).len() < 500);
    }

    #[test]
    fn nonsense_and_floods_are_refused() {
        let flood = "x".repeat(LONGEST + 1);
        let header = format!("HTTP/1.1 204 \r\nA: {flood}\r\n\r\n");
        let many = format!("HTTP/1.1 204 \r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
        let nonsense = [
            "nonsense\r\n\r\n",
            "HTTP/1.1 204 \r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 204 \r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Length: 4000000000\r\n\r\n",
            &header,
            &many,
            &flood,
        ];
        for answer in nonsense {
            assert_eq!(refusal(&[answer]), "Firecracker answers nonsense at its API");
        }
    }

    #[test]
    fn a_vmm_that_hangs_up_is_an_error() {
        let message = "Firecracker hung up when it was asked to do a thing";
        assert_eq!(refusal(&[]), message);
    }

    #[test]
    fn silence_ends_with_the_callers_patience() {
        let dir = tempfile::tempdir().unwrap();
        let (path, me) = (dir.path().join("api.sock"), geteuid().as_raw());
        let mut wait = WaitLimit::within(Duration::from_millis(20));
        assert!(ApiClient::open(&path, me, &mut wait).is_err());
        let _listener = UnixListener::bind(&path).unwrap();
        let mut wait = WaitLimit::within(Duration::from_millis(50));
        let error = ApiClient::open(&path, me, &mut wait)
            .and_then(|mut conversation| conversation.ask(&REQUEST))
            .unwrap_err();
        assert!(error.to_string().contains("Firecracker to do a thing"), "{error:#}");
    }

    #[test]
    fn what_is_not_the_vmms_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, stranger) = (dir.path().join("api.sock"), dir.path().join("stranger"));
        let _listener = UnixListener::bind(&stranger).unwrap();
        std::os::unix::fs::symlink(&stranger, &path).unwrap();
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        assert!(ApiClient::open(&path, geteuid().as_raw(), &mut wait).is_err());
        assert!(stranger.exists());
    }
}
