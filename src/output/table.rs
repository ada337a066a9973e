//! Tables for people.

use std::collections::BTreeSet;

use super::color::TextTone;
use super::escape::escape;
use super::layout::CellFit::{Name, Number, Sparse, Text, Whole};
use super::layout::{TableCell, TableLayout, TableShape};
use super::network_view::network_word;
use super::printer::Printer;
use crate::host::directory::DiskUsage;
use crate::image::ImageInfo;
use crate::model::{
    Accelerator, CheckVerdict, ClockReading, HostCheck, ImageRecipe, MemMib, NetworkState, Profile,
    ProfileName, TimeSpan, VmManifest, VmPhase, VmRecord,
};
use crate::template::ListedTemplate;

const VMS: TableShape<9> = TableShape {
    columns: [
        ("VM", Whole),
        ("NAME", Name),
        ("PROFILE", Name),
        ("STATE", Text),
        ("RUNS ON", Text),
        ("ISOLATION", Whole),
        ("SIZE", Whole),
        ("NET", Sparse),
        ("LEFT", Whole),
    ],
    optional: &["ISOLATION", "SIZE", "NET", "RUNS ON", "PROFILE"],
    important: &["NAME"],
};

/// VMs for people, the titles first; with `--quiet` their ids alone.
pub fn status_rows(printer: Printer, records: &[VmRecord], now: &ClockReading) -> Vec<String> {
    if printer.style.quiet {
        return records.iter().map(|vm| vm.id().to_string()).collect();
    }
    let rows = records.iter().map(|record| {
        let manifest = &record.manifest;
        [
            manifest.vm_id.to_string().into(),
            manifest.name.as_ref().map_or("-".into(), ToString::to_string).into(),
            manifest.profile.to_string().into(),
            state(record),
            runs_on(manifest).into(),
            manifest.isolation().to_string().into(),
            size(manifest.vcpu_count, manifest.mem_mib).into(),
            net(record),
            left(record, now).into(),
        ]
    });
    printer.layout().rows(&VMS, &rows.collect::<Vec<_>>())
}

const POOL: TableShape<6> = TableShape {
    columns: [
        ("VM", Whole),
        ("PROFILE", Name),
        ("RUNS ON", Text),
        ("SIZE", Whole),
        ("NET", Sparse),
        ("LEFT", Whole),
    ],
    optional: &["NET", "RUNS ON"],
    important: &["PROFILE"],
};

/// A row for each VM that waits in the pool.
pub fn pool_table(layout: TableLayout, records: &[VmRecord], now: &ClockReading) -> String {
    let rows = records.iter().map(|record| -> [TableCell; 6] {
        let VmManifest { vm_id, profile, vcpu_count, mem_mib, .. } = &record.manifest;
        let size = size(*vcpu_count, *mem_mib);
        let cells = [vm_id.to_string(), profile.to_string(), runs_on(&record.manifest), size];
        let [id, profile, runs_on, size] = cells.map(TableCell::from);
        [id, profile, runs_on, size, net(record), left(record, now).into()]
    });
    layout.rows(&POOL, &rows.collect::<Vec<_>>()).join("\n")
}

fn runs_on(manifest: &VmManifest) -> String {
    match manifest.accelerator {
        Accelerator::None => manifest.backend.to_string(),
        // Only shown for root: an ordinary user's VMs never have a jail.
        accelerator if manifest.lacks_jail() => {
            format!("{}/{accelerator}, no jail", manifest.backend)
        }
        accelerator => format!("{}/{accelerator}", manifest.backend),
    }
}

/// How long a VM has to live.
fn left(record: &VmRecord, now: &ClockReading) -> String {
    let left = record.expiry.remaining(now);
    if left > 0.0 { TimeSpan::from_seconds(left).to_string() } else { "expired".into() }
}

fn net(record: &VmRecord) -> TableCell {
    let tone = (record.network.state == NetworkState::Lost).then_some(TextTone::Bad);
    TableCell { tone, ..network_word(record).into() }
}

fn state(record: &VmRecord) -> TableCell {
    let name = record.state.name();
    let (text, tone) = match (record.last_error(), &record.state) {
        (Some(error), _) => {
            let reason = escape(error.lines().next().unwrap_or_default());
            (format!("{name} ({reason})"), Some(TextTone::Bad))
        }
        (None, VmPhase::Elsewhere { place }) => {
            (format!("{name} ({})", escape(&place.host)), Some(TextTone::Caution))
        }
        (None, VmPhase::Created | VmPhase::Stopped { .. }) => (name.to_owned(), None),
        (None, VmPhase::Started { .. }) => (name.to_owned(), Some(TextTone::Good)),
        (None, _) => (name.to_owned(), Some(TextTone::Caution)),
    };
    TableCell { tone, ..text.into() }
}

const PROFILES: TableShape<6> = TableShape {
    columns: [
        ("PROFILE", Name),
        ("IMAGE", Whole),
        ("CPUS", Whole),
        ("MEMORY", Whole),
        ("TTL", Whole),
        ("DESCRIPTION", Text),
    ],
    optional: &["TTL", "CPUS", "MEMORY"],
    important: &["DESCRIPTION"],
};

/// A row for each profile; `built` names those whose image exists.
pub fn profiles_table<'a>(
    layout: TableLayout,
    profiles: impl Iterator<Item = &'a Profile>,
    built: &BTreeSet<ProfileName>,
) -> String {
    let rows = profiles.map(|profile| {
        let image = if built.contains(&profile.name) { "built" } else { "not built" };
        [
            profile.name.to_string(),
            image.to_owned(),
            profile.vcpu_count.to_string(),
            MemMib(profile.mem_mib).to_string(),
            TimeSpan(std::time::Duration::from_secs(profile.ttl_seconds)).to_string(),
            escape(&profile.description),
        ]
    });
    table(layout, &PROFILES, rows)
}

const SETTINGS: TableShape<3> = TableShape {
    columns: [("KEY", Whole), ("VALUE", Text), ("FROM", Text)],
    optional: &[],
    important: &["FROM"],
};

/// A row for each setting: its key, its value, and where that comes from.
pub fn settings_table(layout: TableLayout, rows: impl Iterator<Item = [String; 3]>) -> String {
    table(layout, &SETTINGS, rows.map(|row| row.map(|cell| escape(&cell))))
}

const IMAGES: TableShape<5> = TableShape {
    columns: [
        ("PROFILE", Name),
        ("MADE OF", Text),
        ("KERNEL", Name),
        ("ON DISK", Number),
        ("IMAGE", Whole),
    ],
    optional: &["KERNEL", "MADE OF"],
    important: &["IMAGE"],
};

/// A row for each image.
pub fn images_table(layout: TableLayout, images: &[(ImageInfo, DiskUsage)]) -> String {
    let rows = images.iter().map(|(image, usage)| {
        [
            image.profile.to_string(),
            made_of(image),
            escape(&image.kernel_release),
            format!("{} MB", usage.bytes / 1_000_000),
            image.id().chars().take(12).collect(),
        ]
    });
    table(layout, &IMAGES, rows)
}

/// The origin of an image, in a word or two.
fn made_of(image: &ImageInfo) -> String {
    match &image.recipe {
        ImageRecipe::Debian(recipe) => escape(&recipe.suite),
        ImageRecipe::Imported(import) => format!("imported ({})", import.form),
        ImageRecipe::Pulled(pull) => {
            let digits = image.pulled.iter().filter_map(|pulled| pulled.digest.split_once(':'));
            let short: String = digits.flat_map(|(_, digits)| digits.chars().take(12)).collect();
            format!("{} ({})", pull.reference, escape(&short))
        }
    }
}

/// The name contains the profile's, and is the key for `template rm`.
const TEMPLATES: TableShape<7> = TableShape {
    columns: [
        ("TEMPLATE", Whole),
        ("PROFILE", Name),
        ("RUNS ON", Whole),
        ("SIZE", Whole),
        ("ON DISK", Number),
        ("MADE", Whole),
        ("LAST USED", Whole),
    ],
    optional: &["PROFILE", "MADE", "RUNS ON", "SIZE", "LAST USED"],
    important: &["ON DISK"],
};

/// A row for each template.
pub fn templates_table(
    layout: TableLayout,
    templates: &[ListedTemplate],
    now: &ClockReading,
) -> String {
    let rows = templates.iter().map(|template| {
        let [profile, runs_on, size, made] = match &template.info {
            Some(info) => [
                info.profile.to_string(),
                format!("{}/{}", info.backend, info.accelerator),
                size(info.vcpu_count, info.mem_mib),
                ago(now.unix - info.made_at),
            ],
            None => ["(damaged)", "?", "?", "?"].map(str::to_owned),
        };
        let last_used = match template.last_used {
            0.0 => "?".into(),
            last_used => ago(now.unix - last_used),
        };
        let on_disk = format!("{} MB", template.bytes / 1_000_000);
        [escape(&template.name), profile, runs_on, size, on_disk, made, last_used]
    });
    table(layout, &TEMPLATES, rows)
}

const CHECKS: TableShape<3> =
    TableShape { columns: [("", Whole), ("", Whole), ("", Text)], optional: &[], important: &[] };

/// A row for each check, with its remedy below, and the conclusion.
pub fn checks_table(layout: TableLayout, checks: &[HostCheck], conclusion: &str) -> String {
    let rows = checks.iter().flat_map(|check| {
        let (tone, verdict) = match check.verdict {
            CheckVerdict::Ok => (TextTone::Good, "ok"),
            CheckVerdict::Warning => (TextTone::Caution, "--"),
            CheckVerdict::Failed => (TextTone::Bad, "no"),
        };
        let verdict = TableCell { tone: Some(tone), ..verdict.into() };
        let remedy = check.remedy.as_ref().map(|remedy| format!("=> {}", escape(remedy)));
        let remedy = remedy.map(|remedy| ["".into(), "".into(), remedy.into()]);
        [Some([verdict, check.name.into(), escape(&check.detail).into()]), remedy]
    });
    let rows: Vec<_> = rows.flatten().collect();
    let lines = layout.rows(&CHECKS, &rows).split_off(1);
    format!("{}\n\n{}", lines.join("\n"), layout.text(conclusion))
}

pub(super) fn table<const N: usize>(
    layout: TableLayout,
    shape: &TableShape<N>,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<_> = rows.map(|row| row.map(TableCell::from)).collect();
    layout.rows(shape, &rows).join("\n")
}

pub(super) fn size(vcpu_count: u32, mem_mib: u32) -> String {
    format!("{vcpu_count} CPU, {}", MemMib(mem_mib))
}

/// A time in the past, in its largest unit.
pub(super) fn ago(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "m"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}
