//! Running external programs: their output line by line, and killing them with everything they started.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{PipeReader, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};
use rustix::fs::{MemfdFlags, Mode, memfd_create};

use super::which::search_path;
use crate::sys::poll::{self, PollFlags};

/// How often the caller is asked whether to cancel the program.
const TICK: Duration = Duration::from_millis(100);

/// How long the output pipe is read after the program itself has ended, if a child keeps it open.
const DRAIN: Duration = Duration::from_secs(2);

/// How many of the last lines of its output an error quotes.
const TAIL_LINES: usize = 20;

/// How many descriptors are marked one by one where the kernel cannot mark all: the usual limit for a process.
const MARKED_SINGLY: i32 = 1024;

/// Bytes kept of a line.
const LINE_BYTES: usize = 1000;

/// Variables that a program inherits besides `PATH` and `LC_ALL`: the user, and proxies.
const PASSED_ON: [&str; 11] = [
    "HOME",
    "USER",
    "LOGNAME",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// A program failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFailure {
    pub program: String,
    /// Such as "exit status: 1" or "signal: 9 (SIGKILL)".
    pub status: String,
    /// Its last lines, as it printed them.
    pub tail: Vec<String>,
}

impl ToolFailure {
    /// Whether this text is in one of the last lines.
    pub fn tail_contains(&self, text: &str) -> bool {
        self.tail.iter().any(|line| line.contains(text))
    }
}

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed ({})", self.program, self.status)
    }
}

impl std::error::Error for ToolFailure {}

/// The caller cancelled the work, and the program was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolInterrupted;

impl fmt::Display for ToolInterrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for ToolInterrupted {}

/// A program to run.
#[derive(Debug)]
pub struct ToolRun {
    name: String,
    command: Command,
    /// Where its standard output goes instead of to its observer.
    output: Option<File>,
}

impl ToolRun {
    /// Runs the program at `path`, with a cleaned environment, an empty standard input, and a process group
    /// of its own, so that the terminal's Ctrl-C reaches only mayfly.
    #[expect(clippy::disallowed_methods, reason = "this is where programs are started")]
    pub fn new(path: &Path) -> ToolRun {
        let mut command = Command::new(path);
        command.env_clear().stdin(Stdio::null()).process_group(0);
        let search = std::env::join_paths(search_path()).unwrap_or_default();
        command.env("PATH", search).env("LC_ALL", "C.UTF-8");
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        ToolRun { name, command, output: None }
    }

    /// Sets the program's name in errors. The default is its file's name.
    pub fn named(mut self, name: &str) -> ToolRun {
        name.clone_into(&mut self.name);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> ToolRun {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> ToolRun {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> ToolRun {
        self.command.env(name, value);
        self
    }

    pub fn current_dir(mut self, directory: &Path) -> ToolRun {
        self.command.current_dir(directory);
        self
    }

    /// Sets the program's standard input. The default is empty.
    pub fn stdin(mut self, input: std::fs::File) -> ToolRun {
        self.command.stdin(input);
        self
    }

    /// Runs the program, and returns its standard output, byte for byte. The rest is as for [`ToolRun::watch`].
    pub fn read(mut self, cancelled: &dyn Fn() -> bool) -> Result<Vec<u8>> {
        let output = memfd_create(&*self.name, MemfdFlags::CLOEXEC).context("cannot get memory")?;
        let mut output = File::from(output);
        self.output = Some(output.try_clone().context("cannot duplicate a descriptor")?);
        self.watch(&mut |_| {}, cancelled)?;
        let mut bytes = Vec::new();
        output.rewind().context("cannot read a program's output")?;
        output.read_to_end(&mut bytes).context("cannot read a program's output")?;
        Ok(bytes)
    }

    /// Starts the program and waits for it to end. `line` receives each line of its standard output and
    /// error. `cancelled` is asked ten times a second; if it returns true, the program's process group is
    /// killed. The program is also killed when mayfly is.
    ///
    /// # Errors
    /// - [`ToolFailure`]: it did not exit with 0.
    /// - [`ToolInterrupted`]: it was cancelled.
    pub fn watch(mut self, line: &mut dyn FnMut(&str), cancelled: &dyn Fn() -> bool) -> Result<()> {
        let (mut output, write_end) = std::io::pipe().context("cannot make a pipe")?;
        match self.output.take() {
            Some(output) => self.command.stdout(output),
            None => self.command.stdout(write_end.try_clone().context("cannot copy a pipe's end")?),
        };
        self.command.stderr(write_end);
        prepare_child(&mut self.command);
        let child = self.command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        // It holds copies of the pipe's write end: without this, reading would never come to an end.
        drop(self.command);
        let mut watched = WatchedChild { child, ended: None };

        let mut tail = Tail::default();
        let mut is_open = true;
        let mut stop_reading = None;
        let status = loop {
            if cancelled() {
                watched.kill();
                // Once the pipe is closed, every process that wrote to it has ended.
                drain(&mut output);
                return Err(ToolInterrupted.into());
            }
            is_open = is_open && (!readable(&output)? || tail.read(&mut output, line)?);
            if let Some(status) = watched.try_wait()? {
                let deadline = *stop_reading.get_or_insert_with(|| Instant::now() + DRAIN);
                if !is_open || Instant::now() >= deadline {
                    break status;
                }
            } else if !is_open {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        tail.finish(line);
        if status.success() {
            return Ok(());
        }
        Err(ToolFailure { program: self.name, status: status.to_string(), tail: tail.lines.into() }
            .into())
    }
}

/// Asks the kernel to kill the program when the thread that started it ends, however it ends. The program inherits
/// neither the descriptors that mayfly's caller left open, nor a umask that would show in the files of an image.
fn prepare_child(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are plain system calls. Nothing
    // else ends the program when mayfly is killed by SIGKILL.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            rustix::process::umask(Mode::from_raw_mode(0o022));
            close_at_exec_all_but_standard_streams();
            if getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
        });
    }
}

/// Marks all open descriptors from 3 on. May be called between fork and exec.
fn close_at_exec_all_but_standard_streams() {
    // SAFETY: the calls only mark descriptors, and nothing else runs in this process.
    unsafe {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) != 0 {
            // Linux before 5.11.
            for descriptor in 3..MARKED_SINGLY {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// A started program that does not outlive this value.
struct WatchedChild {
    child: Child,
    ended: Option<ExitStatus>,
}

impl WatchedChild {
    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("cannot wait for a program")?;
        }
        Ok(self.ended)
    }

    /// Kills the program's group. The pid cannot be reused before the program is waited for.
    fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for WatchedChild {
    fn drop(&mut self) {
        self.kill();
    }
}

fn readable(pipe: &PipeReader) -> Result<bool> {
    poll::wait_for(pipe.as_fd(), PollFlags::POLLIN, Some(Instant::now() + TICK))
        .context("cannot wait for a program's output")
}

fn drain(pipe: &mut PipeReader) {
    let deadline = Instant::now() + DRAIN;
    let mut sink = [0; 4096];
    while Instant::now() < deadline {
        if readable(pipe).unwrap_or(false) && matches!(pipe.read(&mut sink), Ok(0) | Err(_)) {
            return;
        }
    }
}

/// Splits output into lines and keeps the last ones.
#[derive(Default)]
struct Tail {
    partial: Vec<u8>,
    lines: VecDeque<String>,
}

impl Tail {
    /// Reads once; returns false at the end of the output.
    fn read(&mut self, pipe: &mut PipeReader, line: &mut dyn FnMut(&str)) -> Result<bool> {
        let mut buffer = [0; 8192];
        let count = match pipe.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error).context("cannot read a program's output"),
        };
        for &byte in &buffer[..count] {
            // Progress displays end lines with a carriage return.
            if byte == b'\n' || byte == b'\r' {
                self.finish(line);
            } else if self.partial.len() < LINE_BYTES {
                self.partial.push(byte);
            }
        }
        Ok(count > 0)
    }

    fn finish(&mut self, line: &mut dyn FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
        self.partial.clear();
        if text.is_empty() {
            return;
        }
        line(&text);
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::which::HostTool;

    fn shell(script: &str) -> ToolRun {
        let sh = HostTool { program: "sh", package: "dash" }.find().unwrap();
        ToolRun::new(&sh).arg("-c").arg(script)
    }

    #[test]
    fn each_line_is_reported_and_the_last_ones_are_kept() {
        let mut lines = Vec::new();
        let error = shell("printf 'a\\033[2Jb\\n'; seq 1 30 >&2; printf end; exit 3")
            .watch(&mut |line| lines.push(line.to_owned()), &|| false)
            .unwrap_err();
        assert_eq!(lines[0], "a\u{1b}[2Jb");
        assert_eq!(lines.len(), 32);
        let failed = error.downcast_ref::<ToolFailure>().unwrap();
        assert_eq!(failed.tail.len(), TAIL_LINES);
        assert!(failed.tail_contains("end"));
        assert_eq!(failed.to_string(), "sh failed (exit status: 3)");
    }

    #[test]
    fn success_is_quiet_and_the_environment_is_clean() {
        let mut lines = Vec::new();
        shell("env").watch(&mut |line| lines.push(line.to_owned()), &|| false).unwrap();
        assert!(lines.iter().any(|line| line == "LC_ALL=C.UTF-8"));
        assert!(!lines.iter().any(|line| line.starts_with("CARGO_")));
    }

    #[test]
    fn cancelling_kills_the_whole_group() {
        let started = Instant::now();
        let mut pid = None;
        let error = shell("sleep 100 & echo $!; wait")
            .watch(&mut |line| pid = line.parse().ok(), &|| {
                started.elapsed() > Duration::from_millis(300)
            })
            .unwrap_err();
        assert!(error.is::<ToolInterrupted>());
        assert!(started.elapsed() < Duration::from_secs(4));
        let grandchild: i32 = pid.unwrap();
        // A killed process takes a moment to end on a busy machine.
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z"))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while lives() {
            assert!(Instant::now() < deadline, "{grandchild} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_program_that_leaves_a_child_with_its_output_is_waited_for_only_so_long() {
        let started = Instant::now();
        let mut pid = None;
        shell("setsid sleep 20 & echo $!")
            .watch(&mut |line| pid = line.parse::<i32>().ok(), &|| false)
            .unwrap();
        assert!(started.elapsed() < DRAIN + Duration::from_secs(3));
        let _ = nix::sys::signal::kill(Pid::from_raw(pid.unwrap()), Signal::SIGKILL);
    }
}
