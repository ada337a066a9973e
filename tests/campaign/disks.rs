//! Whether the disks of VMs are whole: a file that a guest has synced is there, and the file system has no faults.

use std::process::Command;

use super::ground::Ground;

/// Checks the file of the last call, if there was one, and writes another. Prints what it found.
const SCRIPT: &str = "set -e; cd /root
if [ -e sum ]; then sha256sum --check --status sum; echo kept; else echo new; fi
head -c 200000 /dev/urandom > data; sha256sum data > sum; sync";

impl Ground {
    /// Starts a VM of a real backend if it still exists, checks its disk in the guest and now and then from outside.
    pub fn check_disk(&self, id: &str, after: &str) {
        if !self.has_machines || self.phase(id) == "absent" {
            return;
        }
        if self.phase(id) != "started" {
            let ended = self.run(&["start", id]);
            assert_eq!(ended.code, Some(0), "a start after {after}: {ended:#?}");
        }
        let ended = self.run(&["exec", "--keep", id, "-c", SCRIPT]);
        assert_eq!(ended.code, Some(0), "a look at the disk after {after}: {ended:#?}");
        let is_new = self.marked.lock().unwrap().insert(id.to_owned());
        let expected = if is_new { "new\n" } else { "kept\n" };
        assert_eq!(ended.stdout, expected, "a synced file after {after}: {ended:#?}");
        // The machine that tests of firecracker run on has no e2fsck.
        if !is_new && !self.machine_is_ours {
            self.ok(&["stop", id]);
            self.check_file_system(id, after);
        }
    }

    fn check_file_system(&self, id: &str, after: &str) {
        let disk = self.state.join("vms").join(id).join("disk.img");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("e2fsck");
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("-fn").arg(disk);
        let output = command.output().expect("e2fsprogs is installed");
        assert!(output.status.success(), "after {after}: {output:#?}");
    }
}
