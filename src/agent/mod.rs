//! The guest's half: a static program that is the first process of a guest, or a plain process of
//! the host under the mock backend.
//!
//! One thread serves each line to the host ([`serve`]); one thread owns `waitpid` ([`processes`]); one
//! watches the TTL ([`vm`]). What differs between a guest and a plain process is in [`vm`] too; what
//! only a guest's first process does is in [`init`], in the steps of [`boot`].

mod args;
mod boot;
mod console;
mod descriptors;
mod host_process;
mod init;
mod job;
mod processes;
mod serve;
mod vm;

use std::process::ExitCode;

/// Runs the agent until its VM ends, with the arguments after the program's name; or, where those ask
/// for it, copies files for one command and ends.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if std::process::id() != 1
        && let Some(transfer) = arguments.next_if(|argument| job::copy::is_one(argument))
    {
        return job::copy::serve(&transfer, arguments.next());
    }
    match args::parse(arguments) {
        Ok(Some(options)) => host_process::run(options),
        Ok(None) if std::process::id() == 1 => init::run(),
        Ok(None) => {
            console::say("it is the first process of a guest; --help says what else it can be");
            ExitCode::from(2)
        }
        Err(stop) => {
            console::say(&stop.message);
            ExitCode::from(stop.code)
        }
    }
}
