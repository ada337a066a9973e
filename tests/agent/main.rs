//! The real agent as a plain process, driven through `mayfly::guest`.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

mod commands;
mod foreign;
mod harness;
mod hostile;
mod lines;
mod streams;
mod tars;
#[path = "../support/timers.rs"]
mod timers;
