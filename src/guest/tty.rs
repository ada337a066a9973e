//! The user's terminal while a command in a VM has one: it is raw, and the guest's terminal has its size.

use std::time::Duration;

use anyhow::{Context, Result};

use super::agent_link::AgentLink;
use crate::host::job_control::TerminalEvent;
use crate::host::terminal::{HostTerminal, RawTerminal, TerminalSize};
use crate::protocol::{FrameKind, WindowSize};

/// The host's terminal, and the size that was reported to the guest.
#[derive(Debug)]
pub(super) struct AttachedTerminal {
    state: State,
    reported: TerminalSize,
}

#[derive(Debug)]
enum State {
    /// The command has not started; Ctrl-C signals mayfly.
    Waiting(HostTerminal),
    Raw(RawTerminal),
    /// Making it raw failed.
    Gone,
}

impl AttachedTerminal {
    /// `size` is the one in the request.
    pub fn new(terminal: HostTerminal, size: WindowSize) -> AttachedTerminal {
        let reported = TerminalSize { rows: size.rows, columns: size.columns };
        AttachedTerminal { state: State::Waiting(terminal), reported }
    }

    /// Makes the terminal raw; call it when the command has started.
    pub fn begin(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Waiting(terminal) => self.state = State::Raw(terminal.raw()?),
            other => self.state = other,
        }
        Ok(())
    }

    /// The terminal, if it is raw: readable when there are events.
    pub fn raw(&self) -> Option<&RawTerminal> {
        match &self.state {
            State::Raw(raw) => Some(raw),
            _ => None,
        }
    }

    /// What to print to say that the VM expires soon; `None` while another program has the terminal.
    pub fn notice(&self, left: Duration, vm: &str) -> Option<String> {
        let left = left.as_secs() + 1;
        let banner = self.banner(&format!(
            "mayfly: this VM expires in {left}s; 'mayfly extend {vm} 10m' gives it more time"
        ))?;
        Some(format!("\x07{banner}"))
    }

    /// What to print to show a line, whose text was not escaped; `None` while another program has the terminal. It takes the place of the top
    /// line: full-screen programs restore that when they draw it again, and nothing scrolls.
    pub fn banner(&self, text: &str) -> Option<String> {
        let raw = self.raw().filter(|raw| raw.is_ours())?;
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        if std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb") {
            return Some(format!("\r\n{text}\r\n"));
        }
        let columns = raw.size().or_usual().columns.into();
        let text: String = text.chars().take(columns).collect();
        Some(format!("\x1b7\x1b[H\x1b[2K\x1b[7m{text}\x1b[m\x1b8"))
    }

    /// Handles all events of the terminal.
    pub fn handle_events(&mut self) -> Result<()> {
        let State::Raw(raw) = &mut self.state else { return Ok(()) };
        while let Some(event) = raw.take() {
            match event {
                // `report_size` compares sizes: one may also change while mayfly is suspended.
                TerminalEvent::Resized => {}
                TerminalEvent::Suspended => raw.suspend()?,
                TerminalEvent::Resumed => raw.resume()?,
            }
        }
        Ok(())
    }

    /// Returns to the host's shell until that continues mayfly.
    pub fn suspend(&mut self) -> Result<()> {
        match &mut self.state {
            State::Raw(raw) => raw.suspend(),
            _ => Ok(()),
        }
    }

    /// Sends the terminal's size if it has changed and the outbox has room.
    pub fn report_size(&mut self, link: &mut AgentLink) -> Result<()> {
        let State::Raw(raw) = &self.state else { return Ok(()) };
        let now = raw.size();
        if now == self.reported || !link.outbox.takes_control() {
            return Ok(());
        }
        self.reported = now;
        let size = WindowSize { rows: now.rows, columns: now.columns };
        let json = serde_json::to_vec(&size).context("encode a size")?;
        link.outbox.push(FrameKind::WindowSize, link.tag, &json);
        Ok(())
    }
}
