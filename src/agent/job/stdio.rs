//! A command's three streams: pipes or one terminal, the agent's ends and the command's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::user::Account;
use super::{spawn, terminal};
use crate::agent::serve::transport::set_nonblocking;
use crate::protocol::{Exec, Kind};

/// The agent's ends.
#[derive(Debug)]
pub struct Streams {
    /// `None` where the command reads an empty input.
    pub input: Option<File>,
    pub outputs: [Option<Output>; 2],
}

/// Something the command writes to.
#[derive(Debug)]
pub struct Output {
    pub source: File,
    pub kind: Kind,
    /// Bytes the command itself had written and that were not read when it ended.
    pub owed: usize,
}

impl Streams {
    /// What the request asks for, with the command's standard input, output and error.
    ///
    /// # Errors
    /// Where there are no more descriptors, or no more terminals.
    pub fn open(request: &Exec, account: Option<&Account>) -> io::Result<(Streams, [OwnedFd; 3])> {
        match &request.tty {
            Some(terminal) => Streams::terminal(terminal.size, account.map(|account| account.uid)),
            None => Streams::pipes(request.stdin),
        }
    }

    fn pipes(with_input: bool) -> io::Result<(Streams, [OwnedFd; 3])> {
        let (stdin, input) = if with_input {
            let (theirs, ours) = spawn::pipe()?;
            (theirs, Some(ours))
        } else {
            (spawn::null()?, None)
        };
        let (output, stdout) = spawn::pipe()?;
        let (error, stderr) = spawn::pipe()?;
        if let Some(input) = &input {
            set_nonblocking(input)?;
        }
        let outputs = [Output::new(output, Kind::Stdout)?, Output::new(error, Kind::Stderr)?];
        let streams = Streams { input: input.map(File::from), outputs: outputs.map(Some) };
        Ok((streams, [stdin, stdout, stderr]))
    }

    fn terminal(
        size: crate::protocol::WindowSize,
        owner: Option<u32>,
    ) -> io::Result<(Streams, [OwnedFd; 3])> {
        let (ours, theirs) = terminal::open(size, owner)?;
        let input = File::from(ours.try_clone()?);
        let output = Output::new(ours, Kind::Stdout)?;
        let stdio = [theirs.try_clone()?, theirs.try_clone()?, theirs];
        Ok((Streams { input: Some(input), outputs: [Some(output), None] }, stdio))
    }
}

impl Output {
    fn new(source: OwnedFd, kind: Kind) -> io::Result<Output> {
        set_nonblocking(&source)?;
        Ok(Output { source: source.into(), kind, owed: 0 })
    }

    /// How many bytes wait, at least.
    pub fn unread(&self) -> usize {
        // What was written to a terminal reaches its other end only when somebody looks there.
        let mut fds = [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::ZERO);
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one integer.
        let result =
            unsafe { libc::ioctl(self.source.as_raw_fd(), libc::FIONREAD, &raw mut count) };
        if result == 0 { count.max(0) as usize } else { 0 }
    }
}
