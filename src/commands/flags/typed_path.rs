//! Paths that a user typed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::model::{Refusal, VmRef};
use crate::protocol::WireText;

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

/// Splits `VM:PATH`; `None` unless the part before the first colon can be a VM's name or id.
pub fn vm_path(typed: &OsStr) -> Option<(VmRef, WireText)> {
    let bytes = typed.as_bytes();
    let colon = bytes.iter().position(|&byte| byte == b':')?;
    let vm = str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    Some((vm, WireText::from(OsStr::from_bytes(&bytes[colon + 1..]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_path_has_a_possible_vm_before_its_first_colon() {
        for (typed, vm, path) in
            [("box:", "box", ""), ("box:/a:b", "box", "/a:b"), ("box:../x", "box", "../x")]
        {
            let expected = (vm.parse().unwrap(), WireText::from(path));
            assert_eq!(vm_path(OsStr::new(typed)), Some(expected), "{typed}");
        }
        for typed in ["-", "./a:b", "/a:b", "a_b:c", ":x", "box", "--"] {
            assert_eq!(vm_path(OsStr::new(typed)), None, "{typed}");
        }
    }
}
