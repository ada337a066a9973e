//! From the host's request to a [`Plan`], and from a failed start to what the host is told.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;

use super::copy;
use super::secrets::Placed;
use super::spawn::{Identity, Plan, SpawnError, Step};
use super::terminal;
use super::user::Account;
use crate::agent::vm::World;
use crate::protocol::{Exec, Failure, FailureKind, Program, Text};

/// Decides everything about a command but its cgroup.
///
/// # Errors
/// What in the request cannot be carried out.
pub fn plan(
    request: &Exec,
    account: Option<&Account>,
    world: &World,
    stdio: [OwnedFd; 3],
    secrets: Option<&mut Placed>,
) -> Result<Plan, Failure> {
    let mut variables = world.variables(account);
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
        Program::Login => Some(world.shell(account)),
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
        Program::Argv(argv) => argv.iter().map(|text| text.as_os_str().to_owned()).collect(),
        Program::Shell(line) => {
            vec![line_shell(path).into(), "-lc".into(), line.as_os_str().to_owned()]
        }
        Program::Login => vec![login_name(shell.as_deref().unwrap_or_default())],
        Program::Pack(pack) => copy::argv(copy::PACK, pack)?,
        Program::Unpack(unpack) => copy::argv(copy::UNPACK, unpack)?,
    };
    let program = argv
        .first()
        .filter(|program| !program.is_empty())
        .ok_or_else(|| failure(FailureKind::NotFound, "there is no program in an empty command"))?;
    let candidates = match (shell, &request.program) {
        (Some(shell), _) => vec![shell],
        (None, Program::Pack(_) | Program::Unpack(_)) => vec![copy::OURSELVES.into()],
        _ => candidates(program, path),
    };
    let directories = match &request.cwd {
        // A relative one begins where the command would run without it.
        Some(cwd) => {
            let bases = world.directories(account).into_iter();
            bases.map(|base| Path::new(&base).join(cwd.as_os_str()).into()).collect()
        }
        None => world.directories(account),
    };
    let envp = variables.into_iter().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    let identity = account.map(|account| Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    });
    Ok(Plan {
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

fn c_strings(strings: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, Failure> {
    strings
        .into_iter()
        .map(|string| CString::new(string.into_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| failure(FailureKind::Refused, "an argument contains a null byte"))
}

/// Why a command did not start, for the host.
pub fn spawn_failure(error: SpawnError, program: &CString, request: &Exec) -> Failure {
    let program = OsStr::from_bytes(program.as_bytes()).display();
    let why = error.errno.desc();
    match (error.step, error.errno) {
        (Step::Exec, Errno::ENOENT | Errno::ENOTDIR) => {
            failure(FailureKind::NotFound, format!("{program}: not found"))
        }
        (Step::Exec, Errno::E2BIG) => failure(FailureKind::Refused, format!("{program}: {why}")),
        (Step::Exec, Errno::ENOMEM | Errno::EAGAIN) | (Step::Fork, _) => {
            failure(FailureKind::Busy, format!("cannot start {program}: {why}"))
        }
        (Step::Exec, _) => failure(FailureKind::NotExecutable, format!("{program}: {why}")),
        (Step::Directory, _) => {
            let directory = request.cwd.as_ref().map_or(OsStr::new("home"), Text::as_os_str);
            let message = format!("cannot run in {}: {why}", directory.display());
            failure(FailureKind::NoSuchDirectory, message)
        }
        (Step::Identity, _) => {
            let user = request.user.as_deref().unwrap_or_default();
            failure(FailureKind::Refused, format!("cannot become {user:?}: {why}"))
        }
        (Step::Secrets, _) => {
            failure(FailureKind::Internal, format!("cannot mount its secrets: {why}"))
        }
        (Step::Terminal, _) => {
            failure(FailureKind::Internal, format!("cannot take over the terminal: {why}"))
        }
        (Step::Cgroup, _) => failure(FailureKind::Busy, format!("cannot join a cgroup: {why}")),
    }
}

/// A failure whose message fits its frame.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    let mut message: String = message.into();
    if message.len() > 500 {
        let cut = (0..=500).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
    }
    Failure { kind, message }
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

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = failure(FailureKind::Internal, "\u{e4}".repeat(1000)).message;
        assert_eq!(cut.len(), 500);
    }
}
