//! The guest's half: a static program that is the first process of a guest, or a plain process of
//! the host under the mock backend.
//!
//! One thread serves each line to the host ([`mod@line`], [`session`]); one thread owns `waitpid`
//! ([`reaper`]); one watches the TTL ([`watchdog`]). What differs between a guest and a plain
//! process is in [`world`]; what only a guest's first process does is in [`init`].

mod account;
mod cgroup;
mod console;
mod init;
mod job;
mod kvm;
mod line;
mod listener;
mod machine;
mod modules;
mod mounts;
mod options;
mod plan;
mod ports;
mod processes;
mod reaper;
mod secrets;
mod serve;
mod session;
mod skeleton;
mod spawn;
mod stdio;
mod terminal;
mod transfer;
mod tree;
mod watchdog;
mod world;

use std::process::ExitCode;

/// Runs the agent until its VM ends, with the arguments after the program's name; or, where those ask
/// for it, copies files for one command and ends.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if std::process::id() != 1
        && let Some(transfer) = arguments.next_if(|argument| transfer::is_one(argument))
    {
        return transfer::serve(&transfer, arguments.next());
    }
    match options::parse(arguments) {
        Ok(Some(options)) => serve::as_process(options),
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
