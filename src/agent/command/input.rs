//! A command's standard input, and how much of it the host may send.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::AsFd;

use rustix::pipe::fcntl_setpipe_size;

use crate::protocol::STDIN_WINDOW;
use crate::sys::nonblocking::would_block;

/// Bytes of credit that are returned at once: a frame for every small read would cost more than its data.
const CREDIT_BATCH: usize = STDIN_WINDOW / 4;

/// How many bytes the pipe of a large input holds, so that the command and the agent take turns less often. It is what
/// Linux allows to every user.
const LARGE_PIPE: usize = 1 << 20;

/// A command's standard input.
#[derive(Debug)]
pub struct StandardInput {
    /// `None` once closed.
    pipe: Option<File>,
    /// What was received and not written yet.
    waiting: VecDeque<u8>,
    /// Whether the host sends no more.
    at_end: bool,
    /// Bytes the host may still send.
    credit: usize,
    /// Bytes the command took that the host has no new credit for yet.
    taken: usize,
    /// Whether the pipe was enlarged, or could not be.
    is_large: bool,
}

impl StandardInput {
    /// An input that is written to `pipe`, or an empty one.
    pub fn new(pipe: Option<File>) -> StandardInput {
        StandardInput {
            at_end: pipe.is_none(),
            pipe,
            waiting: VecDeque::new(),
            credit: STDIN_WINDOW,
            taken: 0,
            is_large: false,
        }
    }

    /// Takes pieces of input from the host. `false` if it had no credit for them.
    pub fn feed(&mut self, mut pieces: &mut [IoSlice<'_>]) -> bool {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let Some(credit) = self.credit.checked_sub(length) else {
            return false;
        };
        self.credit = credit;
        // If the command has closed its input, the bytes are lost, as with any pipe. The host gets no
        // credit for them, so it stops sending.
        if self.at_end {
            return true;
        }
        // Written directly if nothing waits: in an emulated guest, copying is the main cost.
        if self.waiting.is_empty() {
            self.write(&mut pieces);
            if !pieces.is_empty() && self.enlarge() {
                self.write(&mut pieces);
            }
        }
        if self.pipe.is_some() {
            pieces.iter().for_each(|piece| self.waiting.extend(&piece[..]));
        }
        true
    }

    /// Closes the pipe as soon as all bytes are written: the host sends no more.
    pub fn finish(&mut self) {
        self.at_end = true;
        self.write_waiting();
    }

    /// Closes the pipe.
    pub fn close(&mut self) {
        self.pipe = None;
    }

    /// The pipe, while bytes wait for it.
    pub fn wants_to_write(&self) -> Option<impl AsFd + '_> {
        self.pipe.as_ref().filter(|_| !self.waiting.is_empty())
    }

    /// Writes as many of the waiting bytes as the pipe takes.
    pub fn write_waiting(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let (first, second) = waiting.as_slices();
        let count = self.write(&mut &mut [IoSlice::new(first), IoSlice::new(second)][..]);
        waiting.drain(..count);
        if self.pipe.is_some() {
            self.waiting = waiting;
            if self.at_end && self.waiting.is_empty() {
                self.pipe = None;
            }
        }
    }

    /// Credit to return to the host, if it is enough for a frame.
    pub fn take_credit(&mut self) -> Option<u32> {
        let is_enough = self.taken >= CREDIT_BATCH || (self.taken > 0 && self.waiting.is_empty());
        if !is_enough || self.at_end {
            return None;
        }
        let bytes = std::mem::take(&mut self.taken);
        self.credit += bytes;
        Some(bytes as u32)
    }

    /// Writes as many bytes as the pipe takes, removes them from `pieces` and returns their number. Closes the pipe if the
    /// command did.
    fn write(&mut self, pieces: &mut &mut [IoSlice<'_>]) -> usize {
        let mut written = 0;
        while !pieces.is_empty()
            && let Some(file) = &mut self.pipe
        {
            match file.write_vectored(pieces) {
                Ok(0) => break,
                Ok(count) => {
                    written += count;
                    IoSlice::advance_slices(pieces, count);
                }
                Err(error) if would_block(&error) => break,
                Err(_) => self.pipe = None,
            }
        }
        self.taken += written;
        written
    }

    /// Enlarges a full pipe, once. `false` if it has the same size as before.
    fn enlarge(&mut self) -> bool {
        !std::mem::replace(&mut self.is_large, true)
            // A terminal has no size, and a user may have used up what the kernel grants to pipes.
            && self.pipe.as_ref().is_some_and(|pipe| fcntl_setpipe_size(pipe, LARGE_PIPE).is_ok())
    }
}
