//! The command line of an agent that is a plain process. Only mayfly itself uses it, and a guest's
//! first process has none, so it needs no argument parser.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

const HELP: &str =
    "usage: mayfly-agent (--listen-fd N | --port-fd N)... [--root DIR] [--secrets DIR]
  --listen-fd N  serve each connection to the inherited listening socket N
  --port-fd N    serve the inherited stream N as if it were a virtio-serial port
  --root DIR     the directory commands run in by default, instead of the current one
  --secrets DIR  the directory for commands' secrets, on a tmpfs; created when needed";

/// What to serve, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct AgentOptions {
    pub listeners: Vec<RawFd>,
    pub ports: Vec<RawFd>,
    pub root: Option<PathBuf>,
    pub secrets: Option<PathBuf>,
}

/// A message to print, and an exit code to end with, instead of serving.
#[derive(Debug, PartialEq, Eq)]
pub struct EarlyExit {
    pub message: String,
    pub code: u8,
}

/// Reads the arguments; `None` if they name nothing to serve.
///
/// # Errors
/// [`EarlyExit`] with code 2 for an unknown or malformed argument, with code 0 for `--help` and `--version`.
pub fn parse(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Option<AgentOptions>, EarlyExit> {
    let mut options =
        AgentOptions { listeners: Vec::new(), ports: Vec::new(), root: None, secrets: None };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments.next().ok_or_else(|| EarlyExit {
                message: format!("{} needs a value", argument.display()),
                code: 2,
            })
        };
        match argument.to_str() {
            Some("--listen-fd") => options.listeners.push(descriptor(&value()?)?),
            Some("--port-fd") => options.ports.push(descriptor(&value()?)?),
            Some("--root") => options.root = Some(value()?.into()),
            Some("--secrets") => options.secrets = Some(value()?.into()),
            Some("--version") => {
                return Err(EarlyExit { message: env!("CARGO_PKG_VERSION").into(), code: 0 });
            }
            Some("--help") => return Err(EarlyExit { message: HELP.into(), code: 0 }),
            // The kernel passes unknown options of its own command line to the first process.
            _ if std::process::id() == 1 => {}
            _ => {
                let message = format!("unexpected argument {}\n{HELP}", argument.display());
                return Err(EarlyExit { message, code: 2 });
            }
        }
    }
    let serves = !options.listeners.is_empty() || !options.ports.is_empty();
    Ok(serves.then_some(options))
}

fn descriptor(value: &OsString) -> Result<RawFd, EarlyExit> {
    value.to_str().and_then(|text| text.parse().ok()).filter(|&fd| fd > 2).ok_or_else(|| {
        EarlyExit { message: format!("{} is not a descriptor above 2", value.display()), code: 2 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Option<AgentOptions>, EarlyExit> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn known_arguments_are_read_and_others_refused() {
        let words = ["--listen-fd", "3", "--root", "/r", "--secrets", "/s"];
        let options = parse_words(&words).unwrap().unwrap();
        assert_eq!((&options.listeners[..], &options.ports[..]), (&[3][..], &[][..]));
        assert_eq!((options.root, options.secrets), (Some("/r".into()), Some("/s".into())));
        assert_eq!(parse_words(&[]).unwrap(), None);
        for words in [&["--listen-fd"][..], &["--listen-fd", "x"], &["--port-fd", "1"], &["what"]] {
            assert_eq!(parse_words(words).unwrap_err().code, 2, "{words:?}");
        }
    }
}
