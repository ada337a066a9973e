//! The command line: flags, streams, exit codes, JSON, and leftovers of each verb. VMs are mock VMs, which are
//! processes and start in milliseconds. `tests/conformance` tests real VMs.

#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod clients;
mod color;
mod completion;
mod config;
mod copy_places;
mod cp;
mod create;
mod deep;
mod doctor;
mod elsewhere;
mod env_file;
mod escapes;
mod every_verb;
mod exec;
mod exec_all;
mod exec_json;
mod expiry;
mod extend;
mod firecracker;
mod ignored;
mod image;
mod import;
mod import_again;
mod import_files;
mod import_forms;
mod import_sandbox;
mod inspect;
mod interruptible;
mod interrupts;
mod json_page;
mod keep;
mod labels;
mod logs;
mod names;
mod nearest;
mod network_helper;
mod order;
mod ownership;
mod pipes;
mod places;
mod pool;
mod port;
mod profiles;
mod reap;
mod rename;
mod rm;
mod run;
mod run_copies;
mod secrets;
mod selection;
mod sessions;
mod shared_images;
mod signals;
mod slots;
mod start;
mod status;
mod status_watch;
mod stop;
mod streams;
mod survival;
mod template;
mod terminal;
mod threads;
mod typing;
mod usage;
mod wait;
mod watchers;
mod width;
