//! mayfly runs commands in throwaway virtual machines.
//!
//! There is no daemon: each command takes a lock, reads a JSON registry, makes one transition through a
//! backend, writes the registry and exits. These are the modules; each imports only from modules further
//! down, which `tests/project/architecture` checks.
//!
//! - [`cli`] parses the command line, runs the verb and reports errors.
//! - [`commands`] has a file for each verb: its flags, a call of `lifecycle`, and what is printed.
//! - [`output`] prints: tables, JSON, progress and errors.
//! - [`lifecycle`] does what the verbs ask for: it creates, starts, stops and removes VMs.
//! - [`pull`] fetches container images from registries.
//! - [`import`] makes images from root file systems and container images.
//! - [`template`] stores frozen VMs, which new VMs start as copies of.
//! - [`image`] builds and stores the images that VMs boot.
//! - [`guest`] is the host's end of the agent protocol.
//! - [`backend`] runs VMs with Firecracker or QEMU, or as plain processes.
//! - [`network`] is the process that connects a VM to the network.
//! - [`registry`] keeps the records of all VMs, with transactions and locks.
//! - [`settings`] reads directories, profiles and defaults from flags, variables and files.
//! - [`host`] wraps the host's processes, files, signals, terminals and clocks.
//! - [`model`] defines types and rules without I/O.
//! - [`agent`] is the program in the guest. It imports only the three modules below.
//! - [`archive`] reads and writes tar archives of files that are copied or imported.
//! - [`protocol`] defines the messages between host and agent.
//! - [`sys`] has what host and agent both need of Linux.

// Only mayfly's own programs use the library. Its documentation is for contributors and includes private items.
#![allow(rustdoc::private_intra_doc_links, reason = "documented with --document-private-items")]
#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests may panic"))]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("mayfly runs on x86-64 Linux only: it drives KVM and QEMU machines of that kind");

pub mod agent;
pub mod archive;
pub mod backend;
pub mod cli;
pub mod commands;
#[cfg(any(test, fuzzing))]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzz;
pub mod guest;
pub mod host;
pub mod image;
pub mod import;
pub mod lifecycle;
pub mod model;
pub mod network;
pub mod output;
pub mod protocol;
pub mod pull;
pub mod registry;
pub mod settings;
pub mod sys;
pub mod template;
