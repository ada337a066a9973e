//! A command's standard input, and how much of it the host may send.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use crate::protocol::{STDIN_WINDOW, STREAM_PAYLOAD};
use crate::sys::nonblocking::would_block;

/// Bytes of credit that are returned at once: a frame for every small read would cost more than its data.
const CREDIT_BATCH: usize = STREAM_PAYLOAD;

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
        }
    }

    /// Takes bytes from the host. `false` if it had no credit for them.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let Some(credit) = self.credit.checked_sub(bytes.len()) else {
            return false;
        };
        self.credit = credit;
        // If the command has closed its input, the bytes are lost, as with any pipe. The host gets no
        // credit for them, so it stops sending.
        if !self.at_end {
            // Written directly if nothing waits: in an emulated guest, copying is the main cost.
            let count = if self.waiting.is_empty() { write(&mut self.pipe, bytes) } else { 0 };
            self.taken += count;
            if self.pipe.is_some() {
                self.waiting.extend(&bytes[count..]);
            }
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
        while !self.waiting.is_empty() {
            let count = write(&mut self.pipe, self.waiting.as_slices().0);
            if count == 0 {
                break;
            }
            self.waiting.drain(..count);
            self.taken += count;
        }
        if self.pipe.is_none() {
            self.waiting = VecDeque::new();
        } else if self.at_end && self.waiting.is_empty() {
            self.pipe = None;
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
}

/// Writes as many bytes as the pipe takes, and returns how many. Closes the pipe if the command did.
fn write(pipe: &mut Option<File>, bytes: &[u8]) -> usize {
    let Some(file) = pipe else { return 0 };
    match file.write(bytes) {
        Ok(count) => count,
        Err(error) if would_block(&error) => 0,
        Err(_) => {
            *pipe = None;
            0
        }
    }
}
