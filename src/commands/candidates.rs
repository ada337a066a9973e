//! What completes when the user presses Tab. Errors complete to nothing: a prompt is no place for
//! them.

use std::ffi::OsStr;

use clap_complete::CompletionCandidate;
use clap_complete::engine::{PathCompleter, ValueCompleter};

use crate::lifecycle::{self, Manager};
use crate::model::MemMib;
use crate::registry::Registry;
use crate::settings::Settings;

/// The settings as environment and files have them; flags typed on the same line are not known here.
fn settings() -> Option<Settings> {
    Settings::without_command_line().ok()
}

/// Names and ids of VMs, each with its state.
pub fn vms(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    let contents = settings()
        .and_then(|settings| Registry::open_to_read(&settings.directories.state).ok()?.read().ok());
    let mut candidates = Vec::new();
    for record in contents.iter().flat_map(|contents| contents.vms.values()) {
        let about = format!("{}, {}", record.manifest.profile, record.state.name());
        let name = record.manifest.name.as_ref().map(ToString::to_string);
        for text in name.into_iter().chain([record.id().to_string()]) {
            if text.starts_with(typed) {
                candidates.push(CompletionCandidate::new(text).help(Some(about.clone().into())));
            }
        }
    }
    candidates
}

/// What `cp` copies from and to: VMs, each with the colon that a path in it follows, and local files.
pub fn ends_of_copies(current: &OsStr) -> Vec<CompletionCandidate> {
    let vms = vms(current).into_iter().map(|vm| {
        let mut end = vm.get_value().to_owned();
        end.push(":");
        CompletionCandidate::new(end).help(vm.get_help().cloned())
    });
    vms.chain(PathCompleter::any().complete(current)).collect()
}

/// Names of templates, each with what it is of.
pub fn templates(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    let listed = settings()
        .and_then(|settings| Manager::open_to_read(settings).ok())
        .and_then(|manager| lifecycle::list_templates(&manager).ok());
    let named = listed.into_iter().flatten().filter(|listed| listed.name.starts_with(typed));
    named
        .map(|listed| {
            let about = listed.info.map_or("damaged".into(), |info| {
                let (backend, accelerator) = (info.backend, info.accelerator);
                format!("{backend}/{accelerator}, {}", MemMib(info.mem_mib))
            });
            CompletionCandidate::new(listed.name).help(Some(about.into()))
        })
        .collect()
}

/// Names of profiles, each with its description.
pub fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    let profiles = settings().and_then(|settings| settings.profiles().ok());
    profiles
        .into_iter()
        .flat_map(|profiles| profiles.profiles.into_values())
        .filter(|profile| profile.name.starts_with(typed))
        .map(|profile| {
            CompletionCandidate::new(profile.name).help(Some(profile.description.into()))
        })
        .collect()
}
