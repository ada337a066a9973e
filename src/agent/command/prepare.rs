//! From the host's request to a [`SpawnPlan`].

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::copy;
use super::failure::failure;
use super::secrets::PlacedSecrets;
use super::spawn::SpawnPlan;
use super::user::UserAccount;
use super::{defaults, login, terminal};
use crate::agent::vm::AgentContext;
use crate::protocol::{AgentFailure, ExecProgram, ExecRequest, FailureKind};

/// Decides everything about a command but its cgroup.
///
/// # Errors
/// The part of the request that is refused.
pub fn prepare(
    request: &ExecRequest,
    account: Option<&UserAccount>,
    context: &AgentContext,
    stdio: [OwnedFd; 3],
    secrets: Option<&mut PlacedSecrets>,
) -> Result<SpawnPlan, AgentFailure> {
    let mut variables = variables(request, account, context, secrets.as_deref())?;
    let usual_path = defaults::path(context);
    let path = variables.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(usual_path.clone(), |(_, path)| path.clone());
    let shell = match request.program {
        ExecProgram::Login => defaults::shell(account),
        _ => OsString::default(),
    };
    let script =
        login::script(&request.program, &shell, &request.env, account).map_err(|error| {
            failure(FailureKind::Busy, format!("cannot set its variables: {error}"))
        })?;
    let (candidates, argv) = program(request, shell, [&path, &usual_path], script.is_some())?;
    let script = script.map(|(script, hook)| {
        // The profile's own programs must be found. The script sets the path of the request.
        set(&mut variables, OsStr::new("PATH"), usual_path);
        if let Some((name, value)) = hook {
            set(&mut variables, OsStr::new(name), value.into());
        }
        script
    });
    let mut directories = defaults::directories(account, context);
    if let Some(cwd) = &request.cwd {
        // A relative one starts at the default.
        for directory in &mut directories {
            *directory = Path::new(directory).join(cwd.as_os_str()).into();
        }
    }
    let envp = variables.into_iter().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    Ok(SpawnPlan {
        candidates: c_strings(candidates)?,
        argv: c_strings(argv)?,
        envp: c_strings(envp)?,
        directories: c_strings(directories)?,
        identity: account.map(|account| account.ids.clone()),
        secrets: secrets.and_then(|secrets| secrets.mount.take()),
        script,
        cgroup: None,
        reset_oom_score: context.is_guest(),
        stdio,
        terminal: request.tty.is_some(),
    })
}

fn variables(
    request: &ExecRequest,
    account: Option<&UserAccount>,
    context: &AgentContext,
    secrets: Option<&PlacedSecrets>,
) -> Result<Vec<(OsString, OsString)>, AgentFailure> {
    let mut variables = defaults::variables(account, context);
    let mut set = |name: &OsStr, value| set(&mut variables, name, value);
    if let Some(secrets) = secrets {
        set(OsStr::new("MAYFLY_SECRETS"), secrets.path.clone());
    }
    if let Some(terminal) = &request.tty {
        set(OsStr::new("TERM"), terminal::term(terminal.name.as_os_str()));
    }
    if matches!(request.program, ExecProgram::Login) {
        set(OsStr::new("SHELL"), defaults::shell(account));
    }
    for (name, value) in &request.env {
        let name = name.as_os_str();
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            let message = format!("{name:?} cannot be a variable's name");
            return Err(failure(FailureKind::Refused, message));
        }
        set(name, value.as_os_str().to_owned());
    }
    Ok(variables)
}

fn set(variables: &mut Vec<(OsString, OsString)>, name: &OsStr, value: OsString) {
    variables.retain(|(known, _)| known != name);
    variables.push((name.to_owned(), value));
}

/// The paths to try to execute, and the arguments.
fn program(
    request: &ExecRequest,
    login_shell: OsString,
    paths: [&OsStr; 2],
    has_script: bool,
) -> Result<(Vec<OsString>, Vec<OsString>), AgentFailure> {
    let argv: Vec<OsString> = match &request.program {
        ExecProgram::Argv(argv) => argv.iter().map(|text| text.as_os_str().to_owned()).collect(),
        ExecProgram::Shell(line) => {
            let (shell, path) = line_shell(paths);
            return Ok((candidates(OsStr::new(shell), path), login::line(shell, line, has_script)));
        }
        ExecProgram::Login => {
            let name = login::name(&login_shell);
            return Ok((vec![login_shell], vec![name]));
        }
        ExecProgram::Pack(pack) => return copy::command(copy::PACK, pack),
        ExecProgram::Unpack(unpack) => return copy::command(copy::UNPACK, unpack),
    };
    match argv.first() {
        Some(program) if !program.is_empty() => Ok((candidates(program, paths[0]), argv)),
        _ => Err(failure(FailureKind::NotFound, "an empty command names no program")),
    }
}

/// The shell for a command line, and the first of the paths that has one. Small systems have no bash, but their
/// sh also takes `-lc`.
fn line_shell(paths: [&OsStr; 2]) -> (&'static str, &OsStr) {
    let exists = |name: &str, path: &OsStr| {
        candidates(OsStr::new(name), path).iter().any(|path| std::fs::metadata(path).is_ok())
    };
    paths
        .into_iter()
        .flat_map(|path| [("bash", path), ("sh", path)])
        .find(|(shell, path)| exists(shell, path))
        .unwrap_or(("bash", paths[0]))
}

/// The paths to try for a program's name: a name without a slash is searched for in `path`.
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
    fn only_a_name_without_a_slash_is_searched_in_path() {
        let names = candidates(OsStr::new("ls"), OsStr::new("/a::/b"));
        assert_eq!(names, ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(candidates(OsStr::new("./ls"), OsStr::new("/a")), ["./ls"]);
    }
}
