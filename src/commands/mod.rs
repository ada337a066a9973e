//! One file a verb: its flags beside the function that serves them, which translates, calls
//! `lifecycle` and prints.

pub mod completions;
pub mod config;
pub mod cp;
pub mod create;
pub mod doctor;
pub mod exec;
pub mod extend;
pub mod image;
pub mod logs;
pub mod profiles;
pub mod reap;
pub mod rename;
pub mod rm;
pub mod run;
pub mod shell;
pub mod start;
pub mod status;
pub mod stop;
pub mod template;
pub mod wait;

mod building;
mod candidates;
mod circumstances;
mod copies;
mod each;
mod env_file;
mod exec_all;
mod given;
mod guest_command;
mod machine_request;
mod seat;
mod selection;
mod start_way;
mod status_watch;
mod vm_request;

use crate::output::Printer;
use crate::settings::Settings;

/// What every verb gets.
#[derive(Debug)]
pub struct App {
    pub settings: Settings,
    pub printer: Printer,
}
