//! A person at a terminal: from the command's start to its end, the terminal here is raw and the one
//! there has its size.

use anyhow::{Context, Result};

use super::link::Link;
use crate::host::job::Event;
use crate::host::terminal::{Raw, Size, Terminal};
use crate::protocol::{Kind, WindowSize};

/// The terminal, and what the guest was told of it.
#[derive(Debug)]
pub(super) struct Seat {
    state: State,
    /// The size that the guest knows.
    told: Size,
}

#[derive(Debug)]
enum State {
    /// The command does not run yet; Ctrl-C is a signal to us.
    Waiting(Terminal),
    Raw(Raw),
    /// It could not be made raw.
    Gone,
}

impl Seat {
    /// `told` is what the request says.
    pub fn new(terminal: Terminal, told: WindowSize) -> Seat {
        let told = Size { rows: told.rows, columns: told.columns };
        Seat { state: State::Waiting(terminal), told }
    }

    /// The command runs.
    pub fn begin(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Waiting(terminal) => self.state = State::Raw(terminal.raw()?),
            other => self.state = other,
        }
        Ok(())
    }

    /// The raw terminal, to wait for its events.
    pub fn raw(&self) -> Option<&Raw> {
        match &self.state {
            State::Raw(raw) => Some(raw),
            _ => None,
        }
    }

    /// Acts on what happened to the terminal.
    pub fn attend(&mut self) -> Result<()> {
        let State::Raw(raw) = &mut self.state else { return Ok(()) };
        while let Some(event) = raw.take() {
            match event {
                // `tell` looks by itself, also for what changed while we stood still.
                Event::Resized => {}
                Event::Suspended => raw.suspend()?,
                Event::Resumed => raw.resume()?,
            }
        }
        Ok(())
    }

    /// Back to the shell of this side, until that continues us.
    pub fn suspend(&mut self) -> Result<()> {
        match &mut self.state {
            State::Raw(raw) => raw.suspend(),
            _ => Ok(()),
        }
    }

    /// Tells the guest of another size, as soon as there is room for that.
    pub fn tell(&mut self, link: &mut Link) -> Result<()> {
        let State::Raw(raw) = &self.state else { return Ok(()) };
        let now = raw.size();
        if now == self.told || !link.outbox.takes_control() {
            return Ok(());
        }
        self.told = now;
        let size = WindowSize { rows: now.rows, columns: now.columns };
        let json = serde_json::to_vec(&size).context("encode a size")?;
        link.outbox.push(Kind::WindowSize, link.tag, &json);
        Ok(())
    }
}
