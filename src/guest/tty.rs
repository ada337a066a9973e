//! A person at a terminal: from the command's start to its end, the terminal here is raw and the one
//! there has its size.

use anyhow::{Context, Result};

use super::agent_link::AgentLink;
use crate::host::job_control::TerminalEvent;
use crate::host::terminal::{HostTerminal, RawTerminal, TerminalSize};
use crate::protocol::{FrameKind, WindowSize};

/// The terminal, and what the guest was told of it.
#[derive(Debug)]
pub(super) struct AttachedTerminal {
    state: State,
    /// The size that the guest knows.
    told: TerminalSize,
}

#[derive(Debug)]
enum State {
    /// The command does not run yet; Ctrl-C is a signal to us.
    Waiting(HostTerminal),
    Raw(RawTerminal),
    /// It could not be made raw.
    Gone,
}

impl AttachedTerminal {
    /// `told` is what the request says.
    pub fn new(terminal: HostTerminal, told: WindowSize) -> AttachedTerminal {
        let told = TerminalSize { rows: told.rows, columns: told.columns };
        AttachedTerminal { state: State::Waiting(terminal), told }
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
    pub fn raw(&self) -> Option<&RawTerminal> {
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
                TerminalEvent::Resized => {}
                TerminalEvent::Suspended => raw.suspend()?,
                TerminalEvent::Resumed => raw.resume()?,
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
    pub fn tell(&mut self, link: &mut AgentLink) -> Result<()> {
        let State::Raw(raw) = &self.state else { return Ok(()) };
        let now = raw.size();
        if now == self.told || !link.outbox.takes_control() {
            return Ok(());
        }
        self.told = now;
        let size = WindowSize { rows: now.rows, columns: now.columns };
        let json = serde_json::to_vec(&size).context("encode a size")?;
        link.outbox.push(FrameKind::WindowSize, link.tag, &json);
        Ok(())
    }
}
