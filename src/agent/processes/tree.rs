//! The process tree of one command, to be killed as a whole.

use nix::unistd::Pid;

use super::cgroup::CommandCgroup;
use super::family;
use super::reaper::ChildReaper;

/// What a command and everything it started can be reached by.
#[derive(Debug)]
pub struct ProcessTree {
    pub pid: Pid,
    /// In a guest; it holds whatever was started, new sessions and orphans included.
    pub cgroup: Option<CommandCgroup>,
}

impl ProcessTree {
    /// Kills everything at once.
    pub fn kill(&self, reaper: &ChildReaper) {
        if let Some(cgroup) = &self.cgroup
            && cgroup.kill()
        {
            return;
        }
        // What outlives the command on purpose, such as a daemon, is left alone in a plain
        // process's world: without a cgroup nothing says that it was this command's.
        reaper.while_alive(self.pid, || family::kill_family(self.pid.as_raw()));
    }

    /// Sends a signal to the command's process group, if the command still runs.
    pub fn signal(&self, reaper: &ChildReaper, number: i32) {
        reaper.while_alive(self.pid, || {
            // SAFETY: kill takes two integers. The group is the command's own: it has not been
            // waited for. nix's wrapper has no real-time signals.
            unsafe { nix::libc::kill(-self.pid.as_raw(), number) };
        });
    }
}
