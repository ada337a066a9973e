//! Times after January 2038. ext4 keeps them until 2446, but mke2fs before 1.47.1 writes only the lower 32 bits of a time.
//! debugfs adds the bits above them.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Stat, Timespec, Timestamps, utimensat};

use crate::host::confinement::FileReach;
use crate::host::which::HostTool;
use crate::image::ProgressSink;
use crate::image::sandbox;

/// Reads and changes files in a file system without mounting it.
pub const DEBUGFS: HostTool = HostTool { program: "debugfs", package: "e2fsprogs" };

/// The first and the last second that ext4 can keep, in 1901 and 2446 (34 bits, of which the lower 32 are signed).
pub const FIRST: i64 = i32::MIN as i64;
pub const LAST: i64 = i32::MAX as i64 + (3 << 32);

/// The last second that mke2fs writes right.
pub const LAST_OF_32_BITS: i64 = i32::MAX as i64;

/// Bytes in a line of a script: less than the buffer of debugfs, BUFSIZ of the C library.
const MAX_LINE: usize = 8000;

/// What debugfs must do for the times of a tree.
#[derive(Debug, Default)]
pub struct LateTimes {
    script: Vec<u8>,
}

impl LateTimes {
    /// Looks at the file `name` in the directory `parent`, at `place` in the tree. A name that debugfs cannot be told
    /// gets the last time that mke2fs writes right.
    pub fn look(
        &mut self,
        parent: BorrowedFd,
        name: &OsStr,
        place: &Path,
        about: &Stat,
    ) -> Result<()> {
        let above = (about.st_mtime - FIRST) >> 32;
        if above <= 0 {
            return Ok(());
        }
        // In quotation marks, debugfs takes two of them for one.
        let mut line = b"set_inode_field \"/".to_vec();
        for &byte in place.as_os_str().as_bytes() {
            line.extend([byte].repeat(if byte == b'"' { 2 } else { 1 }));
        }
        line.extend(format!("\" mtime_extra {above}\n").bytes());
        let is_one_line = !place.as_os_str().as_bytes().iter().any(|byte| b"\r\n".contains(byte));
        if is_one_line && line.len() <= MAX_LINE {
            self.script.extend(line);
            return Ok(());
        }
        let time = Timespec { tv_sec: LAST_OF_32_BITS, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).context("cannot set a time")
    }

    /// The commands for debugfs.
    pub fn into_script(self) -> Vec<u8> {
        self.script
    }
}

/// Carries out the script at `script`, in `work`, on a file system in `into` that mke2fs made of the tree.
///
/// # Errors
/// debugfs is missing, or cannot do what the script says.
pub fn set(
    script: &Path,
    work: &Path,
    into: &Path,
    file_system: &Path,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    if script.metadata().context("cannot look at a script")?.len() == 0 {
        return Ok(());
    }
    let run = sandbox::run_confined(DEBUGFS, FileReach::new(&[work], &[into]))?
        .arg("-w")
        .arg("-f")
        .arg(script)
        .arg(file_system);
    // debugfs repeats each command. Every other line is an error, which it does not exit with.
    let mut wrong = None;
    run.watch(
        &mut |line| {
            let is_harmless = line.starts_with("debugfs ") || line.starts_with("debugfs: ");
            wrong = wrong.take().or_else(|| (!is_harmless).then(|| line.to_owned()));
        },
        &|| progress.cancelled(),
    )?;
    match wrong {
        Some(line) => bail!("cannot set the times of files after 2038: {line}"),
        None => Ok(()),
    }
}
