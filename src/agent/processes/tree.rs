//! Killing and signalling everything a command started.

use nix::unistd::Pid;

use super::cgroup::CommandCgroup;
use super::family;
use super::reaper::ChildReaper;

/// A command and the processes it started.
#[derive(Debug)]
pub struct ProcessTree {
    pub pid: Pid,
    /// In a guest. It has all processes of the command, new sessions and orphans included.
    pub cgroup: Option<CommandCgroup>,
}

impl ProcessTree {
    /// Kills all of them at once.
    pub fn kill(&self, reaper: &ChildReaper) {
        if let Some(cgroup) = &self.cgroup
            && cgroup.kill()
        {
            return;
        }
        // Without a cgroup, processes that left the family, such as daemons, survive: nothing shows
        // that they belong to the command.
        reaper.while_alive(self.pid, || family::kill_family(self.pid.as_raw()));
    }

    /// Sends a signal to the command's process group, if the command still runs.
    pub fn signal(&self, reaper: &ChildReaper, number: i32) {
        reaper.while_alive(self.pid, || {
            // SAFETY: kill takes two integers. The group is the command's own, because the command has
            // not been collected. nix's kill has no real-time signals.
            unsafe { nix::libc::kill(-self.pid.as_raw(), number) };
        });
    }
}
