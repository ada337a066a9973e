//! A command's three streams: pipes or one terminal, the agent's ends and the command's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;

use super::user::UserAccount;
use super::{spawn, terminal};
use crate::protocol::{ExecRequest, FrameKind};
use crate::sys::nonblocking::set_nonblocking;
use crate::sys::pipe;
use crate::sys::poll::{self, PollFlags};

/// The agent's ends.
#[derive(Debug)]
pub struct CommandStdio {
    /// `None` where the command reads an empty input.
    pub input: Option<File>,
    pub outputs: [Option<CommandOutput>; 2],
}

/// Something the command writes to.
#[derive(Debug)]
pub struct CommandOutput {
    pub source: File,
    pub kind: FrameKind,
    /// Bytes the command itself had written and that were not read when it ended.
    pub owed: usize,
}

impl CommandStdio {
    /// What the request asks for, with the command's standard input, output and error.
    ///
    /// # Errors
    /// Where there are no more descriptors, or no more terminals.
    pub fn open(
        request: &ExecRequest,
        account: Option<&UserAccount>,
    ) -> io::Result<(CommandStdio, [OwnedFd; 3])> {
        match &request.tty {
            Some(terminal) => {
                CommandStdio::terminal(terminal.size, account.map(|account| account.uid))
            }
            None => CommandStdio::pipes(request.stdin),
        }
    }

    fn pipes(with_input: bool) -> io::Result<(CommandStdio, [OwnedFd; 3])> {
        let (stdin, input) = if with_input {
            let (theirs, ours) = pipe::open()?;
            (theirs, Some(ours))
        } else {
            (spawn::null()?, None)
        };
        let (output, stdout) = pipe::open()?;
        let (error, stderr) = pipe::open()?;
        if let Some(input) = &input {
            set_nonblocking(input)?;
        }
        let outputs = [
            CommandOutput::new(output, FrameKind::Stdout)?,
            CommandOutput::new(error, FrameKind::Stderr)?,
        ];
        let streams = CommandStdio { input: input.map(File::from), outputs: outputs.map(Some) };
        Ok((streams, [stdin, stdout, stderr]))
    }

    fn terminal(
        size: crate::protocol::WindowSize,
        owner: Option<u32>,
    ) -> io::Result<(CommandStdio, [OwnedFd; 3])> {
        let (ours, theirs) = terminal::open(size, owner)?;
        let input = File::from(ours.try_clone()?);
        let output = CommandOutput::new(ours, FrameKind::Stdout)?;
        let stdio = [theirs.try_clone()?, theirs.try_clone()?, theirs];
        Ok((CommandStdio { input: Some(input), outputs: [Some(output), None] }, stdio))
    }
}

impl CommandOutput {
    fn new(source: OwnedFd, kind: FrameKind) -> io::Result<CommandOutput> {
        set_nonblocking(&source)?;
        Ok(CommandOutput { source: source.into(), kind, owed: 0 })
    }

    /// How many bytes wait, at least.
    pub fn unread(&self) -> usize {
        // What was written to a terminal reaches its other end only when somebody looks there.
        poll::is_ready(self.source.as_fd(), PollFlags::POLLIN);
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one integer.
        let result =
            unsafe { libc::ioctl(self.source.as_raw_fd(), libc::FIONREAD, &raw mut count) };
        if result == 0 { count.max(0) as usize } else { 0 }
    }
}
