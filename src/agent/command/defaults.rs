//! What a command gets where its request says nothing: user, variables, shell and directory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Access, access};

use super::user::{self, UserAccount};
use crate::agent::vm::{AgentContext, AgentMode};

/// The `PATH` of root in Debian.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The shell that every Unix has.
const PLAIN_SHELL: &str = "/bin/sh";

/// The user a command runs as: `spec`, or root in a guest. `None` if that is the agent's own user and
/// needs no switch.
///
/// # Errors
/// The user or group that is not known.
pub fn account(spec: Option<&str>, context: &AgentContext) -> Result<Option<UserAccount>, String> {
    match spec {
        Some(spec) => look_up(spec).map(Some),
        None if context.is_guest() => look_up("0").map(Some),
        None => Ok(None),
    }
}

fn look_up(spec: &str) -> Result<UserAccount, String> {
    let read = |path| fs::read(path).unwrap_or_default();
    user::resolve(spec, &read("/etc/passwd"), &read("/etc/group"))
}

/// Where programs are looked up unless the request says otherwise.
pub fn path(context: &AgentContext) -> OsString {
    let own = if context.is_guest() { None } else { std::env::var_os("PATH") };
    own.unwrap_or_else(|| USUAL_PATH.into())
}

/// The variables a command has unless its request sets others.
pub fn variables(
    account: Option<&UserAccount>,
    context: &AgentContext,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    let mut set = |name: &str, value: OsString| variables.push((name.into(), value));
    set("PATH", path(context));
    match &context.mode {
        AgentMode::Guest { .. } => {
            set("LANG", "C.UTF-8".into());
        }
        AgentMode::Process { root, .. } => {
            // By the last two the host finds what is left of a VM.
            for name in ["HOME", "MAYFLY_VM_DIR", "MAYFLY_VM_PROOF"] {
                if let Some(value) = std::env::var_os(name) {
                    set(name, value);
                }
            }
            if std::env::var_os("HOME").is_none() {
                set("HOME", root.clone().into());
            }
        }
    }
    if let Some(account) = account {
        set("HOME", account.home.clone());
        set("USER", account.name.clone());
        set("LOGNAME", account.name.clone());
        set("SHELL", account.shell.clone());
    }
    if let Some(vm_id) = context.vm_id() {
        set("MAYFLY_VM", vm_id);
    }
    variables
}

/// The shell a user logs in with: the one in `/etc/passwd`, if it can be executed.
pub fn shell(account: Option<&UserAccount>) -> OsString {
    let shell = match account {
        Some(account) => Some(account.shell.clone()),
        None => look_up(&nix::unistd::geteuid().to_string()).ok().map(|account| account.shell),
    };
    let works = |shell: &OsString| {
        shell.as_bytes().starts_with(b"/") && access(shell.as_os_str(), Access::EXEC_OK).is_ok()
    };
    shell.filter(works).unwrap_or_else(|| PLAIN_SHELL.into())
}

/// The directories to try to run a command in, in order.
pub fn directories(account: Option<&UserAccount>, context: &AgentContext) -> Vec<OsString> {
    match (&context.mode, account) {
        (AgentMode::Process { root, .. }, _) => vec![root.clone().into()],
        (_, Some(account)) if account.home.as_bytes().starts_with(b"/") => {
            vec![account.home.clone(), "/".into()]
        }
        _ => vec!["/".into()],
    }
}
