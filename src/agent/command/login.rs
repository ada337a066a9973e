//! Login shells, and the variables that their profiles must not change.
//!
//! A login shell reads `/etc/profile`, which sets `PATH` in most systems. The variables of the request are set
//! again after that, by a script that the shell finds open as [`SCRIPT_FD`]. It is not in the arguments, which
//! every process in the guest can read, nor in the environment, which the profile's own programs get.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, MemfdFlags, Mode, Uid, fchmod, fchown, memfd_create};

use super::user::UserAccount;
use crate::protocol::{ExecProgram, WireText};

/// The descriptor of the script. Shells accept only one digit in redirections.
pub const SCRIPT_FD: i32 = 9;

/// Reads the script. It is on the line of what follows, so that line numbers in errors remain right.
const READ_SCRIPT: &str = ". /proc/self/fd/9; ";

/// What makes an interactive shell read the script after its profile: a variable and its value.
type ScriptHook = (&'static str, &'static str);

/// bash runs this before its first prompt.
const BASH_HOOK: ScriptHook = ("PROMPT_COMMAND", "[ ! -e /proc/self/fd/9 ] || . /proc/self/fd/9");

/// Other POSIX shells read this file after the profile.
const POSIX_HOOK: ScriptHook = ("ENV", "/proc/self/fd/9");

/// The POSIX shells besides bash. Others do not read `/etc/profile`, and do not understand the script.
const POSIX_SHELLS: [&str; 5] = ["sh", "dash", "ash", "ksh", "mksh"];

/// Variables that shells maintain themselves: they ignore the values they are started with.
const MAINTAINED: [&str; 6] = ["IFS", "OLDPWD", "OPTIND", "PWD", "SHLVL", "_"];

/// The script for a request, if its program is a login shell that needs one, and the variable that makes an
/// interactive shell read it.
///
/// # Errors
/// No more memory or descriptors are available.
pub fn script(
    program: &ExecProgram,
    shell: &OsStr,
    variables: &[(WireText, WireText)],
    account: Option<&UserAccount>,
) -> io::Result<Option<(OwnedFd, Option<ScriptHook>)>> {
    let hook = match program {
        ExecProgram::Shell(_) => None,
        ExecProgram::Login => match hook(shell) {
            None => return Ok(None),
            hook => hook,
        },
        _ => return Ok(None),
    };
    let text = text(variables, hook);
    if text.is_empty() {
        return Ok(None);
    }
    let mut file = File::from(memfd_create("variables", MemfdFlags::CLOEXEC)?);
    file.write_all(&text)?;
    fchmod(&file, Mode::RUSR)?;
    if let Some(UserAccount { ids, .. }) = account {
        // Without the rights to do this, the agent cannot become the user either.
        let _ = fchown(&file, Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)));
    }
    Ok(Some((file.into(), hook)))
}

/// Sets the variables in any POSIX shell. One that the profile has made read-only keeps its value: `command`
/// prevents the error from ending the shell.
fn text(variables: &[(WireText, WireText)], hook: Option<ScriptHook>) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in variables {
        if !is_identifier(name.as_bytes()) {
            continue;
        }
        text.extend_from_slice(b"command export ");
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"='");
        let mut parts = value.as_bytes().split(|&byte| byte == b'\'');
        text.extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            text.extend_from_slice(br"'\''");
            text.extend_from_slice(part);
        }
        text.extend_from_slice(b"' 2>/dev/null\n");
    }
    if text.is_empty() {
        return text;
    }
    if let Some((name, value)) = hook
        && !variables.iter().any(|(given, _)| given.as_bytes() == name.as_bytes())
    {
        let unset = format!("[ \"${name}\" != '{value}' ] || unset {name}\n");
        text.extend_from_slice(unset.as_bytes());
        if (name, value) == BASH_HOOK {
            // The profile may have added to it.
            let others = format!("[ -z \"${name}\" ] || {name}=${{{name}//'{value}'/:}}\n");
            text.extend_from_slice(others.as_bytes());
        }
    }
    text.extend_from_slice(format!("exec {SCRIPT_FD}<&-\n").as_bytes());
    text
}

/// Whether a shell can set the variable. Programs get others as they are in the environment.
fn is_identifier(name: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.iter().all(is_word)
        && name.first().is_some_and(|first| !first.is_ascii_digit())
        && !MAINTAINED.iter().any(|maintained| maintained.as_bytes() == name)
}

fn hook(shell: &OsStr) -> Option<ScriptHook> {
    let name = Path::new(shell).file_name()?;
    if name == "bash" {
        return Some(BASH_HOOK);
    }
    POSIX_SHELLS.iter().any(|posix| name == OsStr::new(posix)).then_some(POSIX_HOOK)
}

/// The arguments of a login shell that runs a command line.
pub fn line(shell: &str, line: &WireText, has_script: bool) -> Vec<OsString> {
    let mut command = OsString::from(if has_script { READ_SCRIPT } else { "" });
    command.push(line.as_os_str());
    vec![shell.into(), "-lc".into(), command]
}

/// The name that makes a shell a login shell: its own, after a hyphen.
pub fn name(shell: &OsStr) -> OsString {
    let mut name = OsString::from("-");
    name.push(Path::new(shell).file_name().unwrap_or(shell));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_odd_names_are_left_out() {
        let variables = [("A", "it's"), ("a.b", "x"), ("1", "x"), ("PWD", "/"), ("B", "")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let expected = "command export A='it'\\''s' 2>/dev/null\ncommand export B='' 2>/dev/null\n\
                        exec 9<&-\n";
        assert_eq!(text(&variables, None), expected.as_bytes());
        assert_eq!(text(&[], Some(BASH_HOOK)), b"");
    }
}
