//! A running mayfly command.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::answer::Answer;
use super::processes::{PATIENCE, eventually};

/// A running command whose output is collected. Dropping it kills it.
#[must_use = "it is killed when it is dropped"]
pub struct Live {
    command: String,
    pub child: Child,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
}

struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn read(source: Option<impl Read + Send + 'static>) -> Stream {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let reader = source.map(|mut source| {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = source.read(&mut buffer) {
                    into.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            })
        });
        Stream { bytes, reader }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn whole(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}

impl Live {
    /// Starts a command with pipes for its three streams.
    pub fn start(mut command: Command) -> Live {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Live::start_as_set_up(command)
    }

    /// Starts a command with the streams it has. Only output to pipes is collected.
    pub fn start_as_set_up(mut command: Command) -> Live {
        let shown = format!("{command:?}");
        let mut child = command.spawn().expect("mayfly can be started");
        Live {
            command: shown,
            stdin: child.stdin.take(),
            stdout: Stream::read(child.stdout.take()),
            stderr: Stream::read(child.stderr.take()),
            child,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its output on stdout so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.stdout.so_far()).into_owned()
    }

    /// Waits until stdout contains `text`. Fails at once if the command ends without printing it.
    #[track_caller]
    pub fn says(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(text) {
            if !self.is_running() {
                let (out, err) = (self.stdout.whole(), self.stderr.whole());
                let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
                if out.contains(text) {
                    break;
                }
                panic!("{} ended and never said {text:?}\n{out}\n{err}", self.command);
            }
            assert!(Instant::now() < deadline, "{} does not say {text:?}", self.command);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.said()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("stdin is open").write_all(bytes).expect("stdin is read");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.signal_number(signal as i32);
    }

    /// For real-time signals, which nix's type lacks.
    pub fn signal_number(&self, number: i32) {
        // SAFETY: kill only sends a signal, to a child that was not waited for.
        let sent = unsafe { nix::libc::kill(self.pid(), number) };
        assert_eq!(sent, 0, "the command is there");
    }

    /// Kills the command, which must not have ended.
    #[track_caller]
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        let answer = self.end();
        assert_eq!(answer.code(), -(Signal::SIGKILL as i32), "{answer}");
    }

    /// Waits until the command ends.
    #[track_caller]
    pub fn end(mut self) -> Answer {
        self.stdin = None;
        let mut status = None;
        eventually(&format!("the end of {}", self.command), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let output = Output {
            status: status.unwrap(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        };
        Answer::new(self.command.clone(), output)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
