//! Conditions and an order for lists of VMs, as users type them.

use std::cmp::Ordering;
use std::str::FromStr;

use clap::ValueEnum;

use super::label::LabelQuery;
use super::phase::VmPhase;
use super::platform::BackendKind;
use super::record::VmRecord;
use super::refusal::{Refusal, RefusalKind};
use super::time::ClockReading;

/// One condition, written `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusFilter {
    State(&'static str),
    Profile(String),
    Backend(BackendKind),
    /// A name, in which `*` stands for any text.
    Name(String),
    Label(LabelQuery),
}

impl StatusFilter {
    /// Whether a VM meets the condition. `record` must come from [`super::reconcile::observe`].
    pub fn matches(&self, record: &VmRecord) -> bool {
        let manifest = &record.manifest;
        match self {
            StatusFilter::State(state) => record.state.name() == *state,
            StatusFilter::Profile(profile) => manifest.profile.as_str() == profile,
            StatusFilter::Backend(backend) => manifest.backend == *backend,
            StatusFilter::Name(pattern) => {
                manifest.name.as_ref().is_some_and(|name| matches_pattern(pattern, name.as_str()))
            }
            StatusFilter::Label(query) => manifest.labels.matches(query),
        }
    }
}

impl FromStr for StatusFilter {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<StatusFilter, Refusal> {
        let refuse = |why: String| Refusal::new(RefusalKind::Usage, why);
        let Some((key, value)) = text.split_once('=') else {
            return Err(refuse(format!("{text:?} is not a filter")).hint(KEYS));
        };
        match key {
            "state" => {
                let known = VmPhase::NAMES.into_iter().find(|name| *name == value);
                known.map(StatusFilter::State).ok_or_else(|| {
                    let hint = format!("the states are {}", VmPhase::NAMES.join(", "));
                    let refusal = refuse(format!("{value:?} is not a state"));
                    refusal.hint_at_nearest(value, VmPhase::NAMES, hint)
                })
            }
            "profile" => Ok(StatusFilter::Profile(value.to_owned())),
            "backend" => {
                BackendKind::from_str(value, false).map(StatusFilter::Backend).map_err(|_| {
                    let known: Vec<String> =
                        BackendKind::value_variants().iter().map(ToString::to_string).collect();
                    let hint = format!("the backends are {}", known.join(", "));
                    let refusal = refuse(format!("{value:?} is not a backend"));
                    refusal.hint_at_nearest(value, known.iter().map(String::as_str), hint)
                })
            }
            "name" => Ok(StatusFilter::Name(value.to_owned())),
            "label" => value.parse().map(StatusFilter::Label),
            _ => Err(refuse(format!("VMs cannot be filtered by {key:?}")).hint_at_nearest(
                key,
                ["state", "profile", "backend", "name", "label"],
                KEYS,
            )),
        }
    }
}

const KEYS: &str =
    "write state=, profile=, backend=, name= or label= and a value, as in 'state=started'";

/// Whether `text` is `pattern`, in which `*` stands for any text, even an empty one.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        // The first match leaves the most text for the parts that follow.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

/// An order of VMs: a key, with `-` before it for the reverse order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSort {
    key: SortKey,
    reverse: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortKey {
    /// Oldest first.
    Created,
    /// The next to expire first.
    Left,
    Id,
    /// VMs without a name last.
    Name,
    Profile,
    State,
    Backend,
    Cpus,
    Mem,
}

impl StatusSort {
    /// All keys.
    pub fn keys() -> Vec<String> {
        SortKey::value_variants()
            .iter()
            .filter_map(|key| Some(key.to_possible_value()?.get_name().to_owned()))
            .collect()
    }

    /// Sorts VMs; equal ones keep their order.
    pub fn apply(self, records: &mut [VmRecord], now: &ClockReading) {
        records.sort_by(|a, b| {
            let order = self.compare(a, b, now);
            if self.reverse { order.reverse() } else { order }
        });
    }

    fn compare(self, a: &VmRecord, b: &VmRecord, now: &ClockReading) -> Ordering {
        let (one, two) = (&a.manifest, &b.manifest);
        match self.key {
            SortKey::Created => one.created_at.total_cmp(&two.created_at),
            SortKey::Left => a.expiry.remaining(now).total_cmp(&b.expiry.remaining(now)),
            SortKey::Id => one.vm_id.cmp(&two.vm_id),
            SortKey::Name => {
                let key = |name: &Option<_>| (name.is_none(), name.clone());
                key(&one.name).cmp(&key(&two.name))
            }
            SortKey::Profile => one.profile.cmp(&two.profile),
            SortKey::State => a.state.name().cmp(b.state.name()),
            SortKey::Backend => one.backend.cmp(&two.backend),
            SortKey::Cpus => one.vcpu_count.cmp(&two.vcpu_count),
            SortKey::Mem => one.mem_mib.cmp(&two.mem_mib),
        }
    }
}

impl FromStr for StatusSort {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<StatusSort, Refusal> {
        let (key, reverse) = match text.strip_prefix('-') {
            Some(key) => (key, true),
            None => (text, false),
        };
        let key = SortKey::from_str(key, false).map_err(|_| {
            let known = StatusSort::keys();
            let hint = format!("the keys are {}; '-' before one reverses it", known.join(", "));
            Refusal::new(RefusalKind::Usage, format!("VMs cannot be sorted by {key:?}"))
                .hint_at_nearest(key, known.iter().map(String::as_str), hint)
        })?;
        Ok(StatusSort { key, reverse })
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_tests::record;
    use super::super::{BootId, MemMib, VmLabels};
    use super::*;

    fn vm(name: Option<&str>, mem: u32) -> VmRecord {
        let mut record = record(VmPhase::Created);
        record.manifest.name = name.map(|name| name.parse().unwrap());
        record.manifest.mem_mib = MemMib(mem).0;
        record.manifest.labels = VmLabels::collect(["ci=7".parse().unwrap()]).unwrap();
        record
    }

    #[test]
    fn every_key_filters_by_its_value() {
        let vm = vm(Some("ci-1"), 256);
        for good in [
            "state=created",
            "profile=debian-base",
            "backend=mock",
            "name=ci-1",
            "name=ci-*",
            "name=*",
            "label=ci",
            "label=ci=7",
        ] {
            assert!(good.parse::<StatusFilter>().unwrap().matches(&vm), "{good}");
        }
        for other in [
            "state=started",
            "profile=debian",
            "backend=qemu",
            "name=ci",
            "name=*2",
            "name=",
            "label=c",
            "label=ci=8",
        ] {
            assert!(!other.parse::<StatusFilter>().unwrap().matches(&vm), "{other}");
        }
        assert!(!"name=*".parse::<StatusFilter>().unwrap().matches(&self::vm(None, 256)));
    }

    #[test]
    fn an_unknown_filter_or_order_is_refused_with_the_known_ones() {
        for bad in ["", "started", "state=on", "state=", "backend=vmware", "color=red", "label="] {
            let refusal = bad.parse::<StatusFilter>().unwrap_err();
            assert!(refusal.hint.is_some(), "{bad}: {refusal}");
        }
        for bad in ["", "-", "--mem", "size", "Name"] {
            assert!(
                bad.parse::<StatusSort>().unwrap_err().hint.unwrap().contains("created"),
                "{bad}"
            );
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("**", "x"),
            ("a*a", "aba"),
            ("", ""),
            ("*b*", "abc"),
        ] {
            assert!(matches_pattern(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*a", "a"),
            ("a", "ab"),
            ("*b", "abc"),
            ("a*b*c", "acb"),
            ("", "a"),
            ("a*bc*c", "abc"),
        ] {
            assert!(!matches_pattern(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn orders_are_stable_and_can_be_reversed() {
        let now = ClockReading { unix: 0.0, boottime: 0.0, boot_id: BootId("this".into()) };
        let sorted = |key: &str| {
            let mut vms = [vm(None, 1), vm(Some("b"), 3), vm(Some("a"), 2), vm(None, 0)];
            key.parse::<StatusSort>().unwrap().apply(&mut vms, &now);
            vms.map(|vm| vm.manifest.mem_mib)
        };
        assert_eq!(sorted("mem"), [0, 1, 2, 3]);
        assert_eq!(sorted("-mem"), [3, 2, 1, 0]);
        assert_eq!(sorted("name"), [2, 3, 1, 0]);
        assert_eq!(sorted("profile"), [1, 3, 2, 0]);
        assert_eq!(sorted("-profile"), [1, 3, 2, 0]);
    }
}
