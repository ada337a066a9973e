//! What completes when the user presses Tab: names of what there is, and values that flags take. Nothing
//! is made or changed for it, and errors complete to nothing: a prompt is no place for them.

use std::ffi::OsStr;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::CompletionCandidate;
use clap_complete::engine::{PathCompleter, ValueCompleter};

use crate::lifecycle::{self, VmManager};
use crate::model::{
    BackendKind, MemMib, StatusSort, TimeSpan, ValueRange, VmLimits, VmPhase, VmRecord,
};
use crate::settings::{SettingOverrides, SettingSources, Settings};

/// Global flags on the line being completed, with variables and files behind them.
static FLAGS: OnceLock<SettingOverrides> = OnceLock::new();

/// Sets the global flags that candidates depend on; to be called once.
pub fn heed(flags: SettingOverrides) {
    let _ = FLAGS.set(flags);
}

fn manager() -> Option<VmManager> {
    let flags = FLAGS.get()?.clone();
    VmManager::open_to_read(Settings::resolve(flags, SettingSources::default()).ok()?).ok()
}

/// Those of some words that begin with what was typed.
fn matching<T: AsRef<str>>(
    current: &OsStr,
    words: impl IntoIterator<Item = T>,
) -> Vec<CompletionCandidate> {
    let described = words.into_iter().map(|word| (word, None));
    matching_described(current, described)
}

/// The same of words that have something said about them, which zsh and fish show.
fn matching_described<T: AsRef<str>>(
    current: &OsStr,
    words: impl IntoIterator<Item = (T, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let typed = current.to_str().unwrap_or_default();
    // What a shell would take for more than a word, or a terminal for more than text, nobody completes.
    let is_plain =
        |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c));
    let words = words.into_iter().filter(|(word, _)| {
        let word = word.as_ref();
        word.starts_with(typed) && is_plain(word)
    });
    words
        .map(|(word, about)| {
            CompletionCandidate::new(word.as_ref()).help(about.map(|about| about.into()))
        })
        .collect()
}

/// Whether a candidate is worth showing: flags only to whoever has begun one. There are so many that the
/// names between them would not be seen.
pub fn is_wanted(candidate: &str, typed: &str) -> bool {
    typed.starts_with('-') || !candidate.starts_with('-')
}

fn all_vms() -> Vec<VmRecord> {
    manager().and_then(|manager| lifecycle::status_all(&manager, &[]).ok()).unwrap_or_default()
}

fn vms_that(current: &OsStr, wanted: impl Fn(&VmPhase) -> bool) -> Vec<CompletionCandidate> {
    let found = all_vms();
    let found = found.iter().filter(|record| wanted(&record.state));
    let words = found.flat_map(|record| {
        let manifest = &record.manifest;
        let about = format!("{}, {}", manifest.profile, record.state.name());
        let name = manifest.name.as_ref().map(|name| name.as_str());
        // Who has named a VM calls it so, unless the id is being typed.
        let id = (name.is_none() || !current.is_empty()).then_some(record.id().as_str());
        name.into_iter().chain(id).map(move |word| (word, Some(about.clone())))
    });
    matching_described(current, words)
}

/// Names of VMs, and ids, each with its state.
pub fn vms(current: &OsStr) -> Vec<CompletionCandidate> {
    vms_that(current, |_| true)
}

/// The same of those that run, or are about to begin or to end doing so.
pub fn vms_that_run(current: &OsStr) -> Vec<CompletionCandidate> {
    vms_that(current, VmPhase::is_up)
}

/// The same of the others.
pub fn vms_that_do_not_run(current: &OsStr) -> Vec<CompletionCandidate> {
    vms_that(current, |state| !state.is_up())
}

/// Labels that VMs have.
pub fn labels(current: &OsStr) -> Vec<CompletionCandidate> {
    let labels = all_vms().into_iter().flat_map(|record| record.manifest.labels.written());
    let labels: std::collections::BTreeSet<String> = labels.collect();
    matching(current, labels)
}

/// Conditions by which VMs can be found: their keys, and behind one its values.
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

/// Orders of VMs.
pub fn sorts(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, StatusSort::keys())
}

/// What `cp` copies from and to: VMs, each with the colon that a path in it follows, and local files.
pub fn ends_of_copies(current: &OsStr) -> Vec<CompletionCandidate> {
    let vms = vms_that_run(current).into_iter().map(|vm| {
        let mut end = vm.get_value().to_owned();
        end.push(":");
        CompletionCandidate::new(end).help(vm.get_help().cloned())
    });
    vms.chain(PathCompleter::any().complete(current)).collect()
}

/// Names of templates, each with what it is of.
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

/// Names of profiles, each with its description.
pub fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    let manager = manager();
    let profiles = manager.as_ref().and_then(|manager| manager.settings.profiles().ok());
    let profiles = profiles.into_iter().flat_map(|profiles| profiles.profiles.values());
    let described = profiles.map(|profile| (&profile.name, Some(profile.description.clone())));
    matching_described(current, described)
}

/// Names of profiles whose image is there.
pub fn images(current: &OsStr) -> Vec<CompletionCandidate> {
    let images = manager().and_then(|manager| manager.list_images().ok()).unwrap_or_default();
    matching(current, images.into_iter().map(|(image, _)| image.profile))
}

fn limits() -> Option<VmLimits> {
    Some(manager()?.settings.profiles().ok()?.limits.clone())
}

/// Those of some values that a limit allows; all of them where it is not known.
fn within(values: &[u64], bounds: Option<ValueRange>) -> Vec<u64> {
    let allowed = |value: &u64| bounds.is_none_or(|bounds| bounds.contains(*value));
    values.iter().copied().filter(allowed).collect()
}

/// Usual amounts of memory that a VM may have.
pub fn memory(current: &OsStr) -> Vec<CompletionCandidate> {
    let usual: Vec<u64> = (8..16).map(|power| 1 << power).collect();
    let allowed = within(&usual, limits().map(|limits| limits.mem_mib));
    matching(current, allowed.into_iter().map(|mib| MemMib(mib as u32).to_string()))
}

/// How many virtual CPUs a VM may have.
pub fn vcpus(current: &OsStr) -> Vec<CompletionCandidate> {
    let allowed = within(&[1, 2, 4, 8, 16, 32], limits().map(|limits| limits.vcpu_count));
    matching(current, allowed.into_iter().map(|count| count.to_string()))
}

/// Usual times to live that a VM may have.
pub fn ttls(current: &OsStr) -> Vec<CompletionCandidate> {
    let usual = [60, 300, 600, 1800, 3600, 14_400, 86_400];
    spans(current, &within(&usual, limits().map(|limits| limits.ttl_seconds)))
}

/// Usual durations.
pub fn durations(current: &OsStr) -> Vec<CompletionCandidate> {
    spans(current, &[1, 10, 60, 600, 3600])
}

fn spans(current: &OsStr, seconds: &[u64]) -> Vec<CompletionCandidate> {
    let spans = seconds.iter().map(|&seconds| TimeSpan(Duration::from_secs(seconds)).to_string());
    matching(current, spans)
}

/// Variables that are set here, which may be passed on.
pub fn variables(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    matching(current, names)
}
