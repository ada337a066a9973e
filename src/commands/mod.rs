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

mod app;
mod building;
mod each;
mod flags;

pub use app::AppContext;
