//! Candidates for completion: names of VMs, profiles and so on, and values of flags. Completing changes
//! nothing, and yields nothing on an error, because a prompt is no place to report one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::CompletionCandidate;
use clap_complete::engine::{PathCompleter, ValueCompleter};

use super::guest_paths::guest_paths;
use crate::commands::flags::typed_path::vm_path;
use crate::lifecycle::{self, VmManager};
use crate::model::{
    BackendKind, MemMib, StatusSort, TimeSpan, ValueRange, VmLimits, VmPhase, VmRecord,
};
use crate::output::escape;
use crate::settings::{SettingOverrides, SettingSources, Settings};

/// The global flags of the line that is being completed, including variables and files.
static FLAGS: OnceLock<SettingOverrides> = OnceLock::new();

/// Sets the global flags that candidates depend on; to be called once.
pub fn set_flags(flags: SettingOverrides) {
    let _ = FLAGS.set(flags);
}

fn manager() -> Option<VmManager> {
    let flags = FLAGS.get()?.clone();
    VmManager::open_to_read(Settings::resolve(flags, SettingSources::default()).ok()?).ok()
}

/// The words that begin with what was typed.
fn matching<T: AsRef<str>>(
    current: &OsStr,
    words: impl IntoIterator<Item = T>,
) -> Vec<CompletionCandidate> {
    let described = words.into_iter().map(|word| (word, None));
    matching_described(current, described)
}

/// The same for words with a description, which zsh and fish show.
fn matching_described<T: AsRef<str>>(
    current: &OsStr,
    words: impl IntoIterator<Item = (T, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    // A word that a shell or terminal might interpret is not completed.
    let is_plain =
        |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c));
    let words = words.into_iter().filter(|(word, _)| {
        let word = word.as_ref();
        word.starts_with(typed) && is_plain(word)
    });
    words
        .map(|(word, about)| {
            CompletionCandidate::new(word.as_ref()).help(about.map(|about| escape(&about).into()))
        })
        .collect()
}

/// Whether to show a candidate. Flags are shown only after a typed '-', because among so many flags the names
/// would be hard to find.
pub fn is_wanted(candidate: &str, typed: &str) -> bool {
    typed.starts_with('-') || !candidate.starts_with('-')
}

fn all_vms() -> Vec<VmRecord> {
    manager().and_then(|manager| lifecycle::status_all(&manager, &[]).ok()).unwrap_or_default()
}

fn vms_where(current: &OsStr, wanted: impl Fn(&VmPhase) -> bool) -> Vec<CompletionCandidate> {
    let found = all_vms();
    let found = found.iter().filter(|record| wanted(&record.state));
    let words = found.flat_map(|record| {
        let manifest = &record.manifest;
        let about = format!("{}, {}", manifest.profile, record.state.name());
        let name = manifest.name.as_ref().map(|name| name.as_str());
        // A named VM is offered by its name, and by its id only if something has been typed.
        let id = (name.is_none() || !current.is_empty()).then_some(record.id().as_str());
        name.into_iter().chain(id).map(move |word| (word, Some(about.clone())))
    });
    matching_described(current, words)
}

/// Names and ids of VMs, with their states.
pub fn vms(current: &OsStr) -> Vec<CompletionCandidate> {
    vms_where(current, |_| true)
}

/// The same for VMs that are running, starting or stopping.
pub fn running_vms(current: &OsStr) -> Vec<CompletionCandidate> {
    vms_where(current, VmPhase::is_up)
}

/// The same for all other VMs.
pub fn vms_not_running(current: &OsStr) -> Vec<CompletionCandidate> {
    vms_where(current, |state| !state.is_up())
}

/// Labels of VMs.
pub fn labels(current: &OsStr) -> Vec<CompletionCandidate> {
    let labels = all_vms().into_iter().flat_map(|record| record.manifest.labels.to_strings());
    let labels: BTreeSet<String> = labels.collect();
    matching(current, labels)
}

/// Filters for VMs: keys, and values after a key.
pub fn filters(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    let Some((key, value)) = typed.split_once('=') else {
        return matching(current, ["state=", "profile=", "backend=", "name=", "label="]);
    };
    let value = OsStr::new(value);
    let values = match key {
        "state" => matching(value, VmPhase::NAMES),
        "profile" => profiles(value),
        "backend" => matching(value, BackendKind::value_variants().iter().map(ToString::to_string)),
        "name" => matching(
            value,
            all_vms().iter().filter_map(|record| Some(record.manifest.name.as_ref()?.as_str())),
        ),
        "label" => labels(value),
        _ => Vec::new(),
    };
    values.into_iter().map(|value| value.add_prefix(format!("{key}="))).collect()
}

/// Sort orders for VMs.
pub fn sort_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, StatusSort::keys())
}

/// Sources and destinations of `cp`: VMs, followed by a colon, paths in them, and local files.
pub fn copy_endpoints(current: &OsStr) -> Vec<CompletionCandidate> {
    if let Some((vm, path)) = vm_path(current) {
        let typed = current.to_str().unwrap_or_default();
        let prefix = typed.split_inclusive(':').next().unwrap_or_default();
        let paths = manager().map(|manager| guest_paths(manager, vm, path)).unwrap_or_default();
        return paths.iter().map(|path| format!("{prefix}{path}").into()).collect();
    }
    let vms = running_vms(current).into_iter().map(|vm| {
        let mut end = vm.get_value().to_owned();
        end.push(":");
        CompletionCandidate::new(end).help(vm.get_help().cloned())
    });
    // A name with a line break would look like two candidates.
    let is_line = |path: &CompletionCandidate| !path.get_value().as_bytes().contains(&b'\n');
    vms.chain(PathCompleter::any().complete(current).into_iter().filter(is_line)).collect()
}

/// Names of templates, with backend and size.
pub fn templates(current: &OsStr) -> Vec<CompletionCandidate> {
    let listed = manager().and_then(|manager| lifecycle::list_templates(&manager).ok());
    let words = listed.into_iter().flatten().map(|listed| {
        let about = listed.info.map_or("damaged".into(), |info| {
            let (backend, accelerator) = (info.backend, info.accelerator);
            format!("{backend}/{accelerator}, {}", MemMib(info.mem_mib))
        });
        (listed.name, Some(about))
    });
    matching_described(current, words)
}

/// Names of profiles, with their descriptions.
pub fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    let manager = manager();
    let profiles = manager.as_ref().and_then(|manager| manager.settings.profiles().ok());
    let profiles = profiles.into_iter().flat_map(|profiles| profiles.profiles.values());
    let described = profiles.map(|profile| (&profile.name, Some(profile.description.clone())));
    matching_described(current, described)
}

/// This host, and the rules of profiles and of VMs that exist.
pub fn allow_rules(current: &OsStr) -> Vec<CompletionCandidate> {
    let manager = manager();
    let profiles = manager.as_ref().and_then(|manager| manager.settings.profiles().ok());
    let of_profiles = profiles.into_iter().flat_map(|profiles| profiles.profiles.values());
    let vms = all_vms();
    let of_vms = vms.iter().map(|vm| &vm.manifest.network);
    let networks = of_profiles.map(|profile| &profile.network).chain(of_vms);
    let rules = networks.flat_map(|network| network.allow.iter().map(ToString::to_string));
    matching(current, rules.chain(["host".into()]).collect::<BTreeSet<String>>())
}

/// Names of profiles whose image is built.
pub fn images(current: &OsStr) -> Vec<CompletionCandidate> {
    let images = manager().and_then(|manager| manager.list_images().ok()).unwrap_or_default();
    matching(current, images.into_iter().map(|(image, _)| image.profile))
}

/// References of images that were pulled.
pub fn references(current: &OsStr) -> Vec<CompletionCandidate> {
    let images = manager().and_then(|manager| manager.list_images().ok()).unwrap_or_default();
    let references = images.iter().filter_map(|(image, _)| image.recipe.pulled());
    let references: std::collections::BTreeSet<String> =
        references.map(|pull| pull.reference.to_string()).collect();
    matching(current, references)
}

fn limits() -> Option<VmLimits> {
    Some(manager()?.settings.profiles().ok()?.limits.clone())
}

/// The values that a limit allows; all of them if it is not known.
fn within(values: &[u64], bounds: Option<ValueRange>) -> Vec<u64> {
    let allowed = |value: &u64| bounds.is_none_or(|bounds| bounds.contains(*value));
    values.iter().copied().filter(allowed).collect()
}

/// Common sizes of memory, within the limits.
pub fn memory(current: &OsStr) -> Vec<CompletionCandidate> {
    let usual: Vec<u64> = (8..16).map(|power| 1 << power).collect();
    let allowed = within(&usual, limits().map(|limits| limits.mem_mib));
    matching(current, allowed.into_iter().map(|mib| MemMib(mib as u32).to_string()))
}

/// Common numbers of virtual CPUs, within the limits.
pub fn vcpus(current: &OsStr) -> Vec<CompletionCandidate> {
    let allowed = within(&[1, 2, 4, 8, 16, 32], limits().map(|limits| limits.vcpu_count));
    matching(current, allowed.into_iter().map(|count| count.to_string()))
}

/// Common times to live, within the limits.
pub fn ttls(current: &OsStr) -> Vec<CompletionCandidate> {
    let usual = [60, 300, 600, 1800, 3600, 14_400, 86_400];
    spans(current, &within(&usual, limits().map(|limits| limits.ttl_seconds)))
}

/// The operands of `extend`.
pub fn vms_and_ttls(current: &OsStr) -> Vec<CompletionCandidate> {
    vms(current).into_iter().chain(ttls(current)).collect()
}

/// Common durations.
pub fn durations(current: &OsStr) -> Vec<CompletionCandidate> {
    spans(current, &[1, 10, 60, 600, 3600])
}

fn spans(current: &OsStr, seconds: &[u64]) -> Vec<CompletionCandidate> {
    let spans = seconds.iter().map(|&seconds| TimeSpan(Duration::from_secs(seconds)).to_string());
    matching(current, spans)
}

/// Names of variables in mayfly's environment.
pub fn variables(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    matching(current, names)
}
