//! The flags for the variables and secrets of a command, shared by `exec`, `run` and `shell`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueHint};
use clap_complete::ArgValueCompleter;

use super::env_file;
use crate::commands::completions::candidates;
use crate::host::secret_file::{self, FilePrivacy};
use crate::model::Refusal;
use crate::protocol::{
    ExecRequest, MAX_REQUEST, MAX_SECRETS, NamedSecret, WireText, is_secret_name,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "The command")]
pub struct EnvAndSecrets {
    /// Set a variable, or pass on the one set here
    ///
    /// Repeatable. It overrides the variables of the image, the profile and /etc/profile. No other variable
    /// set here reaches the VM, except TERM if the command has a terminal.
    #[arg(short, long, value_name = "KEY[=VALUE]", add = ArgValueCompleter::new(candidates::variables))]
    env: Vec<OsString>,

    /// Set the variables in FILE; '-' is standard input
    ///
    /// A line is KEY=VALUE, taken literally, or KEY alone for the variable set here, if any. Empty lines and
    /// lines that begin with '#' are ignored. Repeatable: later files override earlier ones, and --env
    /// overrides all.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Vec<PathBuf>,

    /// Give the command FILE as /run/secrets/NAME
    ///
    /// It is kept only in the VM's memory. Only the command and its children see it, and it is deleted when
    /// the last of them ends. MAYFLY_SECRETS names its directory. FILE may be '-' for standard input, or a
    /// pipe such as bash's <(pass show token). A file that others can read is refused (chmod 600).
    /// Repeatable, for 512 KiB in total.
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<OsString>,
}

impl EnvAndSecrets {
    /// Adds the variables and secrets to a request. `stdin_flag` is the flag, if any, that passes standard input
    /// to the command.
    ///
    /// # Errors
    /// `Usage`, without values of variables or secrets; or a file that cannot be read.
    pub fn add_to(&self, exec: &mut ExecRequest, stdin_flag: Option<&'static str>) -> Result<()> {
        let mut reader = Reader { stdin_flag };
        for file in &self.env_file {
            let text = reader.read(file, "'--env-file'", MAX_REQUEST, FilePrivacy::Optional)?;
            let variables = env_file::parse(&text, |name| std::env::var_os(name));
            exec.env.extend(variables.map_err(|(line, why)| {
                let message = format!("line {line} of {} {why}", file.display());
                Refusal::usage(message).hint("write KEY=VALUE")
            })?);
        }
        for setting in &self.env {
            exec.env.push(variable(setting)?);
        }
        let mut left = MAX_SECRETS;
        for argument in &self.secrets {
            let secret = secret(argument, left, &mut reader)?;
            let name = secret.name();
            if exec.secrets.iter().any(|other| other.name() == name) {
                bail!(Refusal::usage(format!("secret {name:?} is given twice")));
            }
            left -= secret.size();
            exec.secrets.push(secret);
        }
        Ok(())
    }
}

/// Reads files, and standard input at most once.
struct Reader {
    /// The flag that uses standard input.
    stdin_flag: Option<&'static str>,
}

impl Reader {
    fn read(
        &mut self,
        file: &Path,
        flag: &'static str,
        limit: usize,
        privacy: FilePrivacy,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        if file == Path::new(secret_file::STDIN)
            && let Some(other) = self.stdin_flag.replace(flag)
        {
            bail!(Refusal::usage(format!(
                "standard input cannot be used for both {other} and {flag}"
            )));
        }
        secret_file::read(file, limit, privacy)
    }
}

fn variable(setting: &OsStr) -> Result<(WireText, WireText)> {
    let usage = |message: String| Refusal::usage(message).hint("write '-e KEY=VALUE'");
    let bytes = setting.as_bytes();
    let (key, value) = match bytes.iter().position(|&b| b == b'=') {
        // The value may be confidential, so it is not shown.
        Some(0) => bail!(usage("'-e' has no name before '='".into())),
        Some(at) => (bytes[..at].to_owned(), bytes[at + 1..].to_owned()),
        None if bytes.is_empty() => bail!(usage("'-e' is empty".into())),
        None => {
            let shown = setting.display();
            let unset = || usage(format!("'-e {shown}' names a variable that is not set here"));
            (bytes.to_owned(), std::env::var_os(setting).ok_or_else(unset)?.into_vec())
        }
    };
    Ok((WireText(key), WireText(value)))
}

fn secret(argument: &OsStr, left: usize, reader: &mut Reader) -> Result<NamedSecret> {
    let hint = "write '--secret NAME=FILE', where FILE contains the secret";
    let bytes = argument.as_bytes();
    // The argument may be the secret itself, so it is not shown.
    let (name, file) = bytes
        .iter()
        .position(|&byte| byte == b'=')
        .map(|at| (&bytes[..at], &bytes[at + 1..]))
        .filter(|(name, file)| !name.is_empty() && !file.is_empty())
        .ok_or_else(|| Refusal::usage("'--secret' must be followed by NAME=FILE").hint(hint))?;
    let name = str::from_utf8(name).ok().filter(|name| is_secret_name(name)).ok_or_else(|| {
        let shown = String::from_utf8_lossy(name);
        Refusal::usage(format!("invalid secret name {shown:?}")).hint(
            "use at most 64 letters, digits, '_', '-' and '.', and do not begin with '-' or '.'",
        )
    })?;
    let file = Path::new(OsStr::from_bytes(file));
    let value = reader.read(file, "'--secret'", MAX_SECRETS, FilePrivacy::Required)?;
    if value.is_empty() {
        // Most likely, a command in <(…) failed.
        bail!(Refusal::usage(format!(
            "secret {name:?} is empty: there is nothing in {}",
            file.display()
        )));
    }
    let secret = NamedSecret::new(name, value).expect("the name was checked");
    if secret.size() > left {
        let message = format!("the secrets exceed {} KiB in total", MAX_SECRETS / 1024);
        bail!(Refusal::usage(message));
    }
    Ok(secret)
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
