//! Paths that a user typed.

use std::ffi::OsStr;
use std::path::Path;

use crate::model::Refusal;

/// A path, which `what` names in the error.
///
/// # Errors
/// `Usage` if it is empty. In a script that is an unset variable, which must not mean the working directory.
pub fn typed_path<'a>(typed: &'a OsStr, what: &str) -> Result<&'a Path, Refusal> {
    if typed.is_empty() {
        let hint = "write '.' for the current directory";
        return Err(Refusal::usage(format!("{what} is empty")).hint(hint));
    }
    Ok(Path::new(typed))
}
