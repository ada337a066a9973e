//! From the host's request to a [`SpawnPlan`].

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::copy;
use super::failure::failure;
use super::secrets::PlacedSecrets;
use super::spawn::{SpawnPlan, UserIds};
use super::user::UserAccount;
use super::{defaults, terminal};
use crate::agent::vm::AgentContext;
use crate::protocol::{AgentFailure, ExecProgram, ExecRequest, FailureKind};

/// Decides everything about a command but its cgroup.
///
/// # Errors
/// What in the request cannot be carried out.
pub fn plan(
    request: &ExecRequest,
    account: Option<&UserAccount>,
    world: &AgentContext,
    stdio: [OwnedFd; 3],
    secrets: Option<&mut PlacedSecrets>,
) -> Result<SpawnPlan, AgentFailure> {
    let mut variables = defaults::variables(account, world);
    let mut set = |name: &OsStr, value: OsString| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value));
    };
    if let Some(secrets) = &secrets {
        set(OsStr::new("MAYFLY_SECRETS"), secrets.path.clone());
    }
    if let Some(terminal) = &request.tty {
        set(OsStr::new("TERM"), terminal::kind(terminal.name.as_os_str()));
    }
    let shell = match request.program {
        ExecProgram::Login => Some(defaults::shell(account)),
        _ => None,
    };
    if let Some(shell) = &shell {
        set(OsStr::new("SHELL"), shell.clone());
    }
    for (name, value) in &request.env {
        let name = name.as_os_str();
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            let message = format!("{name:?} cannot be a variable's name");
            return Err(failure(FailureKind::Refused, message));
        }
        set(name, value.as_os_str().to_owned());
    }
    let path =
        variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or(OsStr::new("/usr/bin:/bin"));
    let argv: Vec<OsString> = match &request.program {
        ExecProgram::Argv(argv) => argv.iter().map(|text| text.as_os_str().to_owned()).collect(),
        ExecProgram::Shell(line) => {
            vec![line_shell(path).into(), "-lc".into(), line.as_os_str().to_owned()]
        }
        ExecProgram::Login => vec![login_name(shell.as_deref().unwrap_or_default())],
        ExecProgram::Pack(pack) => copy::argv(copy::PACK, pack)?,
        ExecProgram::Unpack(unpack) => copy::argv(copy::UNPACK, unpack)?,
    };
    let program = argv
        .first()
        .filter(|program| !program.is_empty())
        .ok_or_else(|| failure(FailureKind::NotFound, "there is no program in an empty command"))?;
    let candidates = match (shell, &request.program) {
        (Some(shell), _) => vec![shell],
        (None, ExecProgram::Pack(_) | ExecProgram::Unpack(_)) => vec![copy::OURSELVES.into()],
        _ => candidates(program, path),
    };
    let directories = match &request.cwd {
        // A relative one begins where the command would run without it.
        Some(cwd) => {
            let bases = defaults::directories(account, world).into_iter();
            bases.map(|base| Path::new(&base).join(cwd.as_os_str()).into()).collect()
        }
        None => defaults::directories(account, world),
    };
    let envp = variables.into_iter().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    let identity = account.map(|account| UserIds {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    });
    Ok(SpawnPlan {
        candidates: c_strings(candidates)?,
        argv: c_strings(argv)?,
        envp: c_strings(envp)?,
        directories: c_strings(directories)?,
        identity,
        secrets: secrets.and_then(|secrets| secrets.mount.take()),
        cgroup: None,
        reset_oom_score: world.is_guest(),
        stdio,
        terminal: request.tty.is_some(),
    })
}

/// The shell for a command line. Small systems have no bash, and what they call sh knows `-lc` as well.
fn line_shell(path: &OsStr) -> &'static str {
    let is_there = |name: &str| {
        candidates(OsStr::new(name), path).iter().any(|path| std::fs::metadata(path).is_ok())
    };
    if !is_there("bash") && is_there("sh") { "sh" } else { "bash" }
}

/// The paths a program's name may mean, as a shell looks for it.
fn candidates(program: &OsStr, path: &OsStr) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    path.as_bytes()
        .split(|&byte| byte == b':')
        .map(|directory| {
            let mut candidate =
                if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
            candidate.push(b'/');
            candidate.extend(program.as_bytes());
            OsString::from_vec(candidate)
        })
        .collect()
}

/// What a shell is called so that it knows that somebody logs in: its own name after a hyphen.
fn login_name(shell: &OsStr) -> OsString {
    let mut name = OsString::from("-");
    name.push(Path::new(shell).file_name().unwrap_or(shell));
    name
}

fn c_strings(strings: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, AgentFailure> {
    strings
        .into_iter()
        .map(|string| CString::new(string.into_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| failure(FailureKind::Refused, "an argument contains a null byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_and_a_path_is_not() {
        let names = candidates(OsStr::new("ls"), OsStr::new("/a::/b"));
        assert_eq!(names, ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(candidates(OsStr::new("./ls"), OsStr::new("/a")), ["./ls"]);
    }
}
