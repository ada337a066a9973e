//! A command's standard streams: pipes or a terminal.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};

use super::terminal;
use super::user::UserAccount;
use crate::protocol::{ExecRequest, FrameKind, WindowSize};
use crate::sys::nonblocking::set_nonblocking;
use crate::sys::pipe;
use crate::sys::poll::{self, PollFlags};

/// The agent's ends.
#[derive(Debug)]
pub struct CommandStdio {
    /// `None` if the input is empty.
    pub input: Option<File>,
    pub outputs: [Option<CommandOutput>; 2],
}

/// The agent's end of an output.
#[derive(Debug)]
pub struct CommandOutput {
    pub source: File,
    pub kind: FrameKind,
    /// Bytes the command wrote before it ended, and that have not been read.
    pub owed: usize,
}

impl CommandStdio {
    /// Opens the requested streams. The second value has the command's ends: standard input, output and
    /// error.
    ///
    /// # Errors
    /// The kernel's, such as when there are no more descriptors or terminals.
    pub fn open(
        request: &ExecRequest,
        account: Option<&UserAccount>,
    ) -> io::Result<(CommandStdio, [OwnedFd; 3])> {
        match &request.tty {
            Some(terminal) => {
                CommandStdio::terminal(terminal.size, account.map(|account| account.ids.uid))
            }
            None => CommandStdio::pipes(request.stdin, account),
        }
    }

    fn pipes(
        with_input: bool,
        account: Option<&UserAccount>,
    ) -> io::Result<(CommandStdio, [OwnedFd; 3])> {
        let (stdin, input) = if with_input {
            let (theirs, ours) = pipe::open()?;
            give(&theirs, account, Mode::ROTH)?;
            (theirs, Some(ours))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let (output, stdout) = pipe::open()?;
        let (error, stderr) = pipe::open()?;
        give(&stdout, account, Mode::WOTH)?;
        give(&stderr, account, Mode::WOTH)?;
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

    fn terminal(size: WindowSize, owner: Option<u32>) -> io::Result<(CommandStdio, [OwnedFd; 3])> {
        let (ours, theirs) = terminal::open(size, owner)?;
        let input = File::from(ours.try_clone()?);
        let output = CommandOutput::new(ours, FrameKind::Stdout)?;
        let stdio = [theirs.try_clone()?, theirs.try_clone()?, theirs];
        Ok((CommandStdio { input: Some(input), outputs: [Some(output), None] }, stdio))
    }
}

/// Lets the command open its end of a pipe by a name, such as `/dev/stdout`. It belongs to the command's user.
/// The programs that the command starts as other users need `others`; no other process has a name for it, because
/// `/proc` shows the descriptors of a process to its own user only.
fn give(pipe: &OwnedFd, account: Option<&UserAccount>, others: Mode) -> io::Result<()> {
    // What root's agent makes is root's.
    if let Some(UserAccount { ids, .. }) = account
        && (ids.uid, ids.gid) != (0, 0)
    {
        // Without the rights to do this, the agent cannot become the user either.
        let _ = fchown(pipe, Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)));
    }
    Ok(fchmod(pipe, Mode::RUSR | Mode::WUSR | others)?)
}

impl CommandOutput {
    fn new(source: OwnedFd, kind: FrameKind) -> io::Result<CommandOutput> {
        set_nonblocking(&source)?;
        Ok(CommandOutput { source: source.into(), kind, owed: 0 })
    }

    /// How many bytes can be read, at least.
    pub fn unread(&self) -> usize {
        // Polling makes the kernel pass on what was written to the other end of a terminal.
        poll::is_ready(self.source.as_fd(), PollFlags::POLLIN);
        rustix::io::ioctl_fionread(&self.source).unwrap_or(0) as usize
    }
}
