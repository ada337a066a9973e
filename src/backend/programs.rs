//! The programs that backends run.

use std::path::{Path, PathBuf};

use crate::host::{ownership, which};
use crate::model::{Refusal, RefusalKind};

/// The programs, as the user or the defaults name them.
#[derive(Debug, Clone)]
pub struct BackendPrograms {
    pub qemu: PathBuf,
    pub firecracker: PathBuf,
    pub jailer: PathBuf,
    /// Where Firecracker's programs may be if they are not on PATH.
    pub directory: PathBuf,
}

impl BackendPrograms {
    /// The program of this name: in `directory` if it is there and not on PATH, else as named. One that another
    /// user could have put there counts as missing.
    pub(super) fn resolve(&self, named: &Path) -> PathBuf {
        let in_directory = self.directory.join(named);
        let is_plain = named.components().count() == 1;
        if is_plain && which::find(named).is_none() && ownership::is_trusted(&in_directory) {
            in_directory
        } else {
            named.to_owned()
        }
    }
}

/// The agent that is installed beside this program.
///
/// # Errors
/// `Host` if there is none.
pub fn installed_agent() -> Result<PathBuf, Refusal> {
    which::beside("mayfly-agent").ok_or_else(|| {
        Refusal::new(RefusalKind::Host, "mayfly-agent is not installed beside mayfly").hint(
            "install both programs into one directory, as 'cargo install' and 'make install' do",
        )
    })
}
