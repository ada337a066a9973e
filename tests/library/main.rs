//! Parts of the library without the command line: the agent and its protocol, the launcher of VMMs, and building
//! images.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod hidden;
mod image;
mod launcher;
mod network;
mod protocol;
