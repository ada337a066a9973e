//! mayfly runs commands in throwaway virtual machines.
//!
//! There is no daemon: each subcommand takes a lock, reads a JSON registry, makes one transition
//! through a backend, writes the registry and exits. The rooms of the house, from the street to the
//! cellar:
//!
//! - [`cli`]: global flags, the list of verbs, the one `match`.
//! - [`commands`]: one file a verb; flags beside the function that serves them.
//! - [`lifecycle`]: what a verb means for a VM, and [`output`]: the only room that prints.
//! - [`import`]: images from directories and archives that other programs made.
//! - [`guest`] (the host's end of the agent protocol), [`backend`] (the VMMs), [`image`] (what VMs
//!   boot), [`registry`] (transactions and locks), [`settings`] (profiles, directories, variables).
//!   These five do not know each other. [`template`] (frozen VMs of an image) knows [`image`].
//! - [`host`]: the operating system: processes, clocks, files, signals.
//! - [`model`]: plain types and the rules about them, no I/O.
//! - [`protocol`]: the wire between host and guest, and [`archive`]: trees of files on that wire. Both
//!   ends use these two, which know nothing of the rest.
//! - [`agent`]: the guest's half, which knows no more than that either.
//! - [`sys`]: what the host's and the guest's half both need of Linux.
//!
//! Imports run one way, down this list; `tests/project/architecture.rs` fails on an arrow upwards.

// Nobody but these two programs uses the library: its documentation is for those who work on it, with
// private items and all.
#![allow(rustdoc::private_intra_doc_links, reason = "documented with --document-private-items")]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("mayfly runs on x86-64 Linux only: it drives KVM and QEMU machines of that kind");

pub mod agent;
pub mod archive;
pub mod backend;
pub mod cli;
pub mod commands;
pub mod guest;
pub mod host;
pub mod image;
pub mod import;
pub mod lifecycle;
pub mod model;
pub mod output;
pub mod protocol;
pub mod registry;
pub mod settings;
pub mod sys;
pub mod template;
