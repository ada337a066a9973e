//! What mayfly itself tells the user while a command runs.

use super::exec_deadline::ExecDeadline;
use super::outlook::VmOutlook;
use super::session::AgentSession;
use super::tty::AttachedTerminal;

/// The notices of a command. Those that are returned are to be printed on its terminal.
#[derive(Debug, Default)]
pub(super) struct SessionNotices {
    /// News of the VM that could be seen on the terminal for a moment.
    pub shown: Vec<String>,
}

impl SessionNotices {
    /// That the VM expires soon, once, if it is time for that.
    pub fn expiry(
        session: &AgentSession,
        deadline: &mut ExecDeadline,
        terminal: &AttachedTerminal,
    ) -> String {
        // The VM may have been given more time.
        deadline.renew(session.expires());
        let left = deadline.warn();
        left.and_then(|left| terminal.notice(left, session.name())).unwrap_or_default()
    }

    /// News of the VM. Without a terminal of the command, they are told at once.
    pub fn news(&mut self, outlook: &dyn VmOutlook, terminal: Option<&AttachedTerminal>) -> String {
        let terminal = terminal.filter(|terminal| terminal.raw().is_some());
        let mut banner = None;
        for line in outlook.news() {
            match terminal {
                None => outlook.tell(&line),
                Some(terminal) => {
                    banner = terminal.banner(&line).or(banner);
                    self.shown.push(line);
                }
            }
        }
        banner.unwrap_or_default()
    }
}
