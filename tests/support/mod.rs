//! What several test programs need.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

pub mod answer;
pub mod canary;
pub mod command_lines;
mod dispositions;
pub mod environment;
pub mod fields;
pub mod greeting;
pub mod images;
pub mod live;
pub mod logs;
pub mod processes;
pub mod programs;
pub mod registry;
pub mod resolver;
pub mod skip;
pub mod special_addresses;
pub mod terminal;
pub mod timers;
pub mod traces;
