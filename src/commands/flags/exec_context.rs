//! The flags for the user, directory, variables and secrets of a command, shared by `exec`, `run` and
//! `shell`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use clap::Args;

use super::env_and_secrets::EnvAndSecrets;
use crate::protocol::{ExecProgram, ExecRequest, WireText};

#[derive(Debug, Args)]
#[command(next_help_heading = "The command")]
pub struct ExecContext {
    /// Run in directory DIR of the VM
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,

    /// Run as USER of the VM
    ///
    /// A name or a number, optionally followed by ':GROUP'. The default is the profile's user, or root.
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    #[command(flatten)]
    env_and_secrets: EnvAndSecrets,
}

impl ExecContext {
    /// A request to run `program`. `stdin_flag` is the flag, if any, that passes standard input to the command.
    ///
    /// # Errors
    /// Those of [`EnvAndSecrets::add_to`].
    pub fn exec(
        &self,
        program: ExecProgram,
        stdin_flag: Option<&'static str>,
    ) -> Result<ExecRequest> {
        let mut exec = ExecRequest {
            cwd: self.workdir.as_ref().map(text),
            user: self.user.clone(),
            ..ExecRequest::of(program)
        };
        self.env_and_secrets.add_to(&mut exec, stdin_flag)?;
        Ok(exec)
    }
}

/// The program with these words; there must be at least one.
pub fn program(words: &[OsString]) -> ExecProgram {
    ExecProgram::Argv(words.iter().map(text).collect())
}

/// An argument, byte for byte.
pub fn text(text: &OsString) -> WireText {
    WireText(text.as_bytes().to_owned())
}
