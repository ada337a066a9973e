//! The flags by which a command is given variables and secrets, shared by all verbs that run one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueHint};
use clap_complete::ArgValueCompleter;

use super::env_file;
use crate::commands::completions::candidates;
use crate::host::confidential::{self, FilePrivacy};
use crate::model::{Refusal, RefusalKind};
use crate::protocol::{
    ExecRequest, MAX_REQUEST, MAX_SECRETS, NamedSecret, WireText, is_secret_name,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "The command")]
pub struct EnvAndSecrets {
    /// Set an environment variable; without a value, pass on the one here
    ///
    /// May be given several times. Nothing else of this environment reaches the VM, but with a
    /// terminal TERM.
    #[arg(
        short, long, value_name = "KEY[=VALUE]",
        add = ArgValueCompleter::new(candidates::variables)
    )]
    env: Vec<OsString>,

    /// Set the variables in FILE, or in standard input if it is '-'
    ///
    /// A line is KEY=VALUE, with the value as it stands; or KEY alone, for the variable here, if it is
    /// set. Lines that are empty or begin with '#' are left out. May be given several times; what a
    /// later file says wins, and '--env' over all of them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Vec<PathBuf>,

    /// Give the command what is in FILE as /run/secrets/NAME
    ///
    /// It goes straight into the memory of the VM and is on no disk, in no argument, in no log. Only
    /// the command's own user can read it, only the command and what it starts can see it, and it is
    /// gone with the last of those. MAYFLY_SECRETS is the directory it is in. FILE may be '-' for
    /// standard input, or a pipe such as bash's <(pass show token); of a file of yours others must have
    /// no use (chmod 600). May be given several times; 512 KiB is the most.
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<OsString>,
}

impl EnvAndSecrets {
    /// Puts all of it into a request. `input` is the flag that makes standard input the command's own.
    ///
    /// # Errors
    /// `Usage`, before anything was done. What is secret is in no message.
    pub fn give(&self, exec: &mut ExecRequest, input: Option<&'static str>) -> Result<()> {
        let mut reader = Reader { input };
        for file in &self.env_file {
            let text = reader.read(file, "'--env-file'", MAX_REQUEST, FilePrivacy::May)?;
            let variables = env_file::parse(&text, |name| std::env::var_os(name));
            exec.env.extend(variables.map_err(|(line, why)| {
                let message = format!("line {line} of {} {why}", file.display());
                Refusal::new(RefusalKind::Usage, message).hint("write KEY=VALUE")
            })?);
        }
        for setting in &self.env {
            exec.env.push(variable(setting)?);
        }
        let mut left = MAX_SECRETS;
        for given in &self.secrets {
            let secret = secret(given, left, &mut reader)?;
            let name = secret.name();
            if exec.secrets.iter().any(|other| other.name() == name) {
                return Err(usage(format!("there are two secrets {name:?}")).into());
            }
            left -= secret.size();
            exec.secrets.push(secret);
        }
        Ok(())
    }
}

/// Reads files, and standard input once.
struct Reader {
    /// Who has taken it.
    input: Option<&'static str>,
}

impl Reader {
    fn read(
        &mut self,
        file: &Path,
        flag: &'static str,
        limit: usize,
        guarded: FilePrivacy,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        if file == Path::new(confidential::STDIN)
            && let Some(other) = self.input.replace(flag)
        {
            return Err(usage(format!("standard input cannot be for {other} and {flag}")).into());
        }
        confidential::read(file, limit, guarded)
    }
}

fn variable(setting: &OsStr) -> Result<(WireText, WireText)> {
    let bytes = setting.as_bytes();
    let (key, value) = match bytes.iter().position(|&b| b == b'=') {
        // What follows may be anything, and is not shown.
        Some(0) => {
            return Err(usage("an '-e' has no name before '='")
                .hint("write '-e KEY=VALUE'")
                .into());
        }
        Some(at) => (bytes[..at].to_owned(), bytes[at + 1..].to_owned()),
        None if bytes.is_empty() => {
            return Err(usage("an '-e' is empty").hint("write '-e KEY=VALUE'").into());
        }
        None => {
            let shown = setting.display();
            let value = std::env::var_os(setting).ok_or_else(|| {
                usage(format!("'-e {shown}' names a variable that is not set here"))
                    .hint("write '-e KEY=VALUE'")
            })?;
            (bytes.to_owned(), value.into_vec())
        }
    };
    Ok((WireText(key), WireText(value)))
}

fn secret(given: &OsStr, left: usize, reader: &mut Reader) -> Result<NamedSecret> {
    let hint = "write '--secret NAME=FILE'; FILE has the secret in it";
    let bytes = given.as_bytes();
    // It may be the secret itself, and is not shown.
    let (name, file) = bytes
        .iter()
        .position(|&byte| byte == b'=')
        .map(|at| (&bytes[..at], &bytes[at + 1..]))
        .filter(|(name, file)| !name.is_empty() && !file.is_empty())
        .ok_or_else(|| usage("a '--secret' is not NAME=FILE").hint(hint))?;
    let name = str::from_utf8(name).ok().filter(|name| is_secret_name(name)).ok_or_else(|| {
        let shown = String::from_utf8_lossy(name);
        usage(format!("{shown:?} cannot be a secret's name")).hint(
            "use letters, digits, '_', '-' and '.', at most 64, and begin with none of the last two",
        )
    })?;
    let file = Path::new(OsStr::from_bytes(file));
    let value = reader.read(file, "'--secret'", MAX_SECRETS, FilePrivacy::Must)?;
    if value.is_empty() {
        // A command in <(…) that failed, most likely.
        return Err(
            usage(format!("secret {name:?} is empty: nothing is in {}", file.display())).into()
        );
    }
    let secret = NamedSecret::new(name, value).expect("the name was checked");
    if secret.size() > left {
        let message =
            format!("the secrets are longer than the {} KiB that fit", MAX_SECRETS / 1024);
        return Err(usage(message).into());
    }
    Ok(secret)
}

fn usage(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_may_hold_anything_but_must_have_a_name() {
        let variable = |text: &str| variable(OsStr::new(text));
        assert_eq!(variable("A=b=c").unwrap(), (WireText(b"A".into()), WireText(b"b=c".into())));
        assert!(!variable("=x").unwrap_err().to_string().contains('x'));
        assert!(variable("").is_err());
        assert!(variable("MAYFLY_NO_SUCH_VARIABLE").is_err());
    }
}
