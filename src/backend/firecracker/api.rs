//! A client of Firecracker's API: HTTP over a Unix socket in the VMM's home
//! (`src/firecracker/swagger/firecracker.yaml` of Firecracker).
//!
//! The VMM is not trusted: its answers are limited in size and time, and its socket is checked. There
//! is one connection; the socket's name is deleted when it is open, so that there can be no other.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::host::socket;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};
use crate::sys::poll::PollFlags;

/// The pause between two tries to connect. A VMM takes some milliseconds before it listens, and does
/// not announce it.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The longest answer, in bytes. Firecracker's have a few hundred.
const MAX_ANSWER: usize = 1 << 14;

/// The most header lines of an answer. Firecracker sends four.
const MAX_HEADERS: usize = 16;

/// How many characters of Firecracker's reason an error repeats.
const MAX_REASON: usize = 400;

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct ApiRequest<B> {
    pub method: &'static str,
    pub path: &'static str,
    pub body: B,
    /// What an error says the request was for: "to …".
    pub purpose: &'static str,
}

/// A connection to one Firecracker.
#[derive(Debug)]
pub struct ApiClient<'a, 'w> {
    stream: UnixStream,
    wait: &'a mut WaitLimit<'w>,
}

impl<'a, 'w> ApiClient<'a, 'w> {
    /// Waits until Firecracker listens at `path`, connects, and deletes the socket's name. `owner` is
    /// the user Firecracker runs as.
    ///
    /// # Errors
    /// `Host` if something else is at `path`; the errors of [`WaitLimit::ready`].
    pub fn open(path: &Path, owner: u32, wait: &'a mut WaitLimit<'w>) -> Result<Self> {
        let stream = loop {
            if let Some(stream) = socket::connect_to(path, owner)? {
                break stream;
            }
            wait.pause(RETRY_INTERVAL, "Firecracker to listen")?;
        };
        std::fs::remove_file(path).context("cannot delete Firecracker's socket")?;
        stream.set_nonblocking(true)?;
        Ok(ApiClient { stream, wait })
    }

    /// Extends the time limit.
    pub fn extend(&mut self, by: Duration) {
        self.wait.deadline += by;
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// `Host` with Firecracker's reason, or for an invalid answer; the errors of [`WaitLimit::ready`].
    pub fn ask<B: Serialize>(&mut self, request: &ApiRequest<B>) -> Result<()> {
        let purpose = request.purpose;
        self.send(&encode(request)?, purpose)?;
        let answer = self.receive(purpose)?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(refused(purpose, status, &answer.body)),
        }
    }

    fn send(&mut self, mut bytes: &[u8], purpose: &str) -> Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => self.wait_or_fail(error, PollFlags::POLLOUT, purpose)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, purpose: &str) -> Result<ApiAnswer> {
        let mut received = Vec::new();
        loop {
            if let Some(answer) = ApiAnswer::parse(&received)? {
                return Ok(answer);
            }
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(hung_up(purpose)),
                Ok(count) if received.len() + count > MAX_ANSWER => return Err(invalid_answer()),
                Ok(count) => received.extend(&part[..count]),
                Err(error) => self.wait_or_fail(error, PollFlags::POLLIN, purpose)?,
            }
        }
    }

    /// Waits if the error only means that the socket is not ready.
    fn wait_or_fail(
        &mut self,
        error: std::io::Error,
        events: PollFlags,
        purpose: &str,
    ) -> Result<()> {
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
pub(crate) struct ApiAnswer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl ApiAnswer {
    /// Parses an answer; `None` if it is not complete yet.
    pub fn parse(received: &[u8]) -> Result<Option<ApiAnswer>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(parsed) = head.parse(received) else { return Err(invalid_answer()) };
        let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
        let status = head.code.ok_or_else(invalid_answer)?;
        let length =
            head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = match length {
            Some(header) => {
                let text = std::str::from_utf8(header.value).map_err(|_| invalid_answer())?;
                text.parse::<usize>().map_err(|_| invalid_answer())?
            }
            None => 0,
        };
        if length > MAX_ANSWER {
            return Err(invalid_answer());
        }
        let body = received.get(begin..begin + length);
        Ok(body.map(|body| ApiAnswer { status, body: body.to_vec() }))
    }
}

/// Firecracker's error.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

fn refused(purpose: &str, status: u16, body: &[u8]) -> anyhow::Error {
    let reason = match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => fault.fault_message.trim().chars().take(MAX_REASON).collect(),
        Err(_) => format!("HTTP status {status}"),
    };
    host(format!("Firecracker refuses {purpose}: {reason}"))
}

fn hung_up(purpose: &str) -> anyhow::Error {
    host(format!("Firecracker closed the connection when it was asked {purpose}"))
}

fn invalid_answer() -> anyhow::Error {
    host("Firecracker sent an invalid answer".to_owned())
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

    /// The result of two requests to a fake VMM that listens late: it answers the first with these
    /// parts and the second with success.
    fn ask(parts: &[&str]) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
        let socket = path.clone();
        let vmm = spawn(move || {
            let listener = UnixListener::bind(socket).unwrap();
            let (mut client, _) = listener.accept().unwrap();
            let mut received = BufReader::new(client.try_clone().unwrap());
            let done = vec!["HTTP/1.1 204 \r\n\r\n".to_owned()];
            for parts in [parts, done] {
                let mut line = String::new();
                let mut head = Vec::new();
                while received.read_line(&mut line).is_ok_and(|count| count > 2) {
                    head.push(std::mem::take(&mut line));
                }
                if head.is_empty() {
                    return;
                }
                assert_eq!(head[0], "PUT /thing HTTP/1.1\r\n");
                assert_eq!(head.last().unwrap(), "Content-Length: 8\r\n");
                let mut body = [0; 8];
                received.read_exact(&mut body).unwrap();
                assert_eq!(&body, b"\"a body\"");
                if parts.is_empty() {
                    return;
                }
                // The client disconnects when it has read enough.
                if parts.iter().any(|part| client.write_all(part.as_bytes()).is_err()) {
                    return;
                }
            }
        });
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        let mut ask_twice = || {
            let mut client = ApiClient::open(&path, geteuid().as_raw(), &mut wait)?;
            assert!(!path.exists());
            client.ask(&REQUEST)?;
            client.ask(&REQUEST)
        };
        let asked = ask_twice();
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
    fn firecrackers_reason_is_reported() {
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
    fn invalid_and_endless_answers_are_refused() {
        let flood = "x".repeat(MAX_ANSWER + 1);
        let header = format!("HTTP/1.1 204 \r\nA: {flood}\r\n\r\n");
        let many = format!("HTTP/1.1 204 \r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        let invalid = [
            "nonsense\r\n\r\n",
            "HTTP/1.1 204 \r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 204 \r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Length: 4000000000\r\n\r\n",
            &header,
            &many,
            &flood,
        ];
        for answer in invalid {
            assert_eq!(refusal(&[answer]), "Firecracker sent an invalid answer");
        }
    }

    #[test]
    fn a_vmm_that_hangs_up_is_an_error() {
        let message = "Firecracker closed the connection when it was asked to do a thing";
        assert_eq!(refusal(&[]), message);
    }

    #[test]
    fn a_silent_vmm_is_waited_for_until_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let (path, me) = (dir.path().join("api.sock"), geteuid().as_raw());
        let mut wait = WaitLimit::within(Duration::from_millis(20));
        assert!(ApiClient::open(&path, me, &mut wait).is_err());
        let _listener = UnixListener::bind(&path).unwrap();
        let mut wait = WaitLimit::within(Duration::from_millis(50));
        let error = ApiClient::open(&path, me, &mut wait)
            .and_then(|mut client| client.ask(&REQUEST))
            .unwrap_err();
        assert!(error.to_string().contains("Firecracker to do a thing"), "{error:#}");
    }

    #[test]
    fn a_socket_of_another_user_or_a_link_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, stranger) = (dir.path().join("api.sock"), dir.path().join("stranger"));
        let _listener = UnixListener::bind(&stranger).unwrap();
        std::os::unix::fs::symlink(&stranger, &path).unwrap();
        let mut wait = WaitLimit::within(Duration::from_secs(20));
        assert!(ApiClient::open(&path, geteuid().as_raw(), &mut wait).is_err());
        assert!(stranger.exists());
    }
}
