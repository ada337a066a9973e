//! Pseudoterminals, and commands that run in one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use super::answer::{NOT_ISOLATED, without};
use super::processes::{PATIENCE, eventually};

/// Opens both ends of a new terminal: the master and the one that programs use.
///
/// `openpty` would leak both into programs that another test starts at the same time, and a terminal only hangs up when
/// no process has its master open.
pub fn open() -> (File, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname_r(&master).unwrap();
    let slave =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
    // SAFETY: into_raw_fd has just released the descriptor, so this is its only owner.
    let master = unsafe { File::from_raw_fd(master.into_raw_fd()) };
    (master, slave)
}

/// Starts a command as a terminal emulator does: in a new session, with the terminal as its three streams and its
/// controlling terminal.
pub fn give(command: &mut Command, slave: &File) {
    let end = || slave.try_clone().unwrap();
    command.stdin(end()).stdout(end()).stderr(end());
    // SAFETY: setsid and ioctl are async-signal-safe; standard input is the terminal.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// A command in a terminal, by default of 80 by 24 characters, which the test types into and reads.
pub struct Sitting {
    shown: String,
    child: Child,
    /// Keyboard and screen.
    master: Option<File>,
    /// Open to read the settings.
    slave: Option<File>,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Tells the reader to stop.
    closed: Arc<AtomicBool>,
    /// How many bytes of the screen have been checked.
    seen: usize,
    /// The settings before the command and after it.
    before: Termios,
    after: Option<Termios>,
}

impl Sitting {
    pub fn start(command: Command) -> Sitting {
        Sitting::start_at(24, 80, command)
    }

    /// Starts it in a terminal of another size.
    pub fn start_at(rows: u16, columns: u16, mut command: Command) -> Sitting {
        let (master, slave) = open();
        tcsetwinsize(&master, size(rows, columns)).unwrap();
        let before = tcgetattr(&slave).unwrap();
        give(&mut command, &slave);
        let child = command.spawn().expect("the command can be started");
        let shown = format!("{command:?}");
        // The command has the other end open too.
        drop(command);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(AtomicBool::new(false));
        let (into, over, mut source) =
            (screen.clone(), closed.clone(), master.try_clone().unwrap());
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !over.load(Ordering::SeqCst) {
                // A blocked read would keep the terminal from hanging up.
                if poll(&mut [PollFd::new(source.as_fd(), PollFlags::POLLIN)], 20_u8) == Ok(0) {
                    continue;
                }
                let Ok(count @ 1..) = source.read(&mut buffer) else { break };
                let mut screen = into.lock().unwrap();
                screen.extend_from_slice(&buffer[..count]);
                *screen = without(&NOT_ISOLATED.replace('\n', "\r\n"), &screen);
            }
        });
        Sitting {
            shown,
            child,
            master: Some(master),
            slave: Some(slave),
            screen,
            reader: Some(reader),
            closed,
            seen: 0,
            before,
            after: None,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn types(&mut self, keys: &str) {
        let mut keyboard: &File = self.master.as_ref().expect("the terminal is there");
        keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` appears, and returns the unchecked part of the screen up to its end. The terminal also shows
    /// what is typed, so `text` should be something that only an answer contains.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            let screen = self.screen.lock().unwrap()[self.seen..].to_vec();
            let at = screen.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = at {
                let end = at + text.len();
                self.seen += end;
                return String::from_utf8_lossy(&screen[..end]).into_owned();
            }
            let late = Instant::now() >= deadline;
            if late || (ended && self.reader.as_ref().is_none_or(JoinHandle::is_finished)) {
                panic!("{} does not show {text:?} but {:?}", self.shown, last(&screen));
            }
            if ended && self.after.is_none() {
                // The reader may not have received its last output yet.
                self.after = Some(self.settings());
                self.slave = None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The rows that a terminal of this size shows, without the cursor's. The command must have written all of them since
    /// it last moved the cursor to the top.
    pub fn drawn(&self, rows: u16, columns: u16) -> Vec<String> {
        let bytes = self.screen.lock().unwrap();
        let top = b"\x1b[H";
        let at = bytes.windows(top.len()).rposition(|window| window == top).unwrap_or(0);
        let [rows, width] = [rows, columns].map(|size| NonZeroU16::new(size).unwrap());
        let mut terminal = vt100::Parser::new(rows, width, 0);
        terminal.process(b"\x1b[?7l");
        terminal.process(&bytes[at..]);
        terminal.screen().rows(0, columns).collect()
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(self.master.as_ref().unwrap(), size(rows, columns)).unwrap();
    }

    /// The current settings.
    pub fn settings(&self) -> Termios {
        tcgetattr(self.slave.as_ref().expect("the command runs")).unwrap()
    }

    /// Whether the settings are as they were before the command.
    #[must_use]
    pub fn is_as_before(&self) -> bool {
        self.settings() == self.before
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the command is there");
    }

    /// Closes the terminal as one closes a window, and waits until the command ends.
    #[track_caller]
    #[must_use]
    pub fn closes(mut self) -> ExitStatus {
        self.closed.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        (self.slave, self.master) = (None, None);
        self.wait()
    }

    /// Waits until the command ends and returns its exit code and the screen. The settings must be as before the
    /// command.
    #[track_caller]
    #[must_use]
    pub fn ends(mut self) -> (i32, String) {
        let status = self.wait();
        let after = self.after.take().unwrap_or_else(|| self.settings());
        assert_eq!(after, self.before, "{} restores the terminal", self.shown);
        self.slave = None;
        let reader = self.reader.take().unwrap();
        eventually("the end of what is on the screen", || reader.is_finished());
        let screen = String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned();
        (status.code().unwrap_or_else(|| panic!("{} ended by {status}", self.shown)), screen)
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= deadline {
                let screen = self.screen.lock().unwrap()[self.seen..].to_vec();
                panic!("{} does not end; its screen is {:?}", self.shown, last(&screen));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// The end of a screen.
fn last(screen: &[u8]) -> String {
    String::from_utf8_lossy(&screen[screen.len().saturating_sub(2000)..]).into_owned()
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
