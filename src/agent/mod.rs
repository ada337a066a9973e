//! The guest agent: a static program that is the first process of a guest ([`init`]), or a plain
//! process of the host under the mock backend ([`host_process`]).
//!
//! One thread serves each connection or port from the host ([`serve`]) and the command that it runs
//! ([`command`]), one owns `waitpid` ([`processes`]), one watches the TTL ([`vm`]). [`boot`] has the steps of
//! a guest's boot.

mod args;
mod boot;
mod command;
mod console;
mod descriptors;
mod host_process;
mod init;
mod network;
mod processes;
mod serve;
mod vm;

use std::process::ExitCode;

/// Runs the agent until its VM ends; `arguments` begin after the program's name. With the arguments of
/// [`command::copy`] it only copies files and returns.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if std::process::id() != 1
        && let Some(direction) = arguments.next_if(|argument| command::copy::is_direction(argument))
    {
        return command::copy::run(&direction, arguments.next());
    }
    match args::parse(arguments) {
        Ok(Some(options)) => host_process::run(options),
        Ok(None) if std::process::id() == 1 => init::run(),
        Ok(None) => {
            console::print(
                "this program is the first process of a guest; see --help for other uses",
            );
            ExitCode::from(2)
        }
        Err(stop) => {
            console::print(&stop.message);
            ExitCode::from(stop.code)
        }
    }
}
