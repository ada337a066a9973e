//! Tables for people.

use std::collections::BTreeSet;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::color::{StreamColor, TextTone};
use super::escape::escape;
use super::printer::Printer;
use crate::host::directory::DiskUsage;
use crate::image::ImageInfo;
use crate::model::{
    Accelerator, CheckVerdict, ClockReading, HostCheck, ImageRecipe, MemMib, Profile, ProfileName,
    TimeSpan, VmPhase, VmRecord,
};
use crate::template::ListedTemplate;

/// VMs for people: with `--quiet` their ids alone, a line each.
pub fn status_text(printer: Printer, records: &[VmRecord], now: &ClockReading) -> String {
    if printer.style.quiet {
        return records.iter().map(|vm| vm.id().as_str()).collect::<Vec<_>>().join("\n");
    }
    status_table(records, now, printer.paint())
}

/// A line for each VM.
fn status_table(records: &[VmRecord], now: &ClockReading, paint: StreamColor) -> String {
    let states: Vec<_> = records.iter().map(state).collect();
    let rows = records.iter().zip(&states).map(|(record, (state, _))| {
        let manifest = &record.manifest;
        let runs_on = match manifest.accelerator {
            Accelerator::None => manifest.backend.to_string(),
            // Only shown for root: an ordinary user's VMs never have a jail.
            accelerator if manifest.lacks_jail() => {
                format!("{}/{accelerator}, no jail", manifest.backend)
            }
            accelerator => format!("{}/{accelerator}", manifest.backend),
        };
        let left = record.expiry.remaining(now);
        [
            manifest.vm_id.to_string(),
            manifest.name.as_ref().map_or("-".into(), ToString::to_string),
            manifest.profile.to_string(),
            state.clone(),
            runs_on,
            manifest.isolation().to_string(),
            size(manifest.vcpu_count, manifest.mem_mib),
            if left > 0.0 { TimeSpan::from_seconds(left).to_string() } else { "expired".into() },
        ]
    });
    let titles = ["VM", "NAME", "PROFILE", "STATE", "RUNS ON", "ISOLATION", "SIZE", "LEFT"];
    painted(&table(titles, None, rows), "STATE", &states, paint)
}

/// A VM's state, and the colour for it.
fn state(record: &VmRecord) -> (String, Option<TextTone>) {
    let name = record.state.name();
    if let Some(error) = record.last_error() {
        return (
            format!("{name} ({})", escape(error.lines().next().unwrap_or_default())),
            Some(TextTone::Bad),
        );
    }
    if let VmPhase::Elsewhere { place } = &record.state {
        return (format!("{name} ({})", escape(&place.host)), Some(TextTone::Caution));
    }
    let tone = match &record.state {
        VmPhase::Created | VmPhase::Stopped { .. } => None,
        VmPhase::Started { .. } => Some(TextTone::Good),
        _ => Some(TextTone::Caution),
    };
    (name.to_owned(), tone)
}

/// Colours the cells of one column in a finished table, because the table's layout does not support colours.
fn painted(
    table: &str,
    title: &str,
    cells: &[(String, Option<TextTone>)],
    paint: StreamColor,
) -> String {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.find(title).unwrap_or(head.len());
    let rows = lines.zip(cells).map(|(line, (text, tone))| match (line.get(column..), tone) {
        (Some(rest), Some(tone)) if rest.starts_with(text) => {
            let (before, after) = (&line[..column], &rest[text.len()..]);
            format!("{before}{}{after}", paint.paint(*tone, text))
        }
        _ => line.to_owned(),
    });
    std::iter::once(head.to_owned()).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A line for each profile; `built` names those whose image exists.
pub fn profiles_table<'a>(
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
    table(["PROFILE", "IMAGE", "CPUS", "MEMORY", "TTL", "DESCRIPTION"], None, rows)
}

/// A line for each setting: its key, its value, and where that comes from.
pub fn settings_table(rows: impl Iterator<Item = [String; 3]>) -> String {
    table(["KEY", "VALUE", "FROM"], None, rows.map(|row| row.map(|cell| escape(&cell))))
}

/// A line for each image.
pub fn images_table(images: &[(ImageInfo, DiskUsage)]) -> String {
    let rows = images.iter().map(|(image, usage)| {
        [
            image.profile.to_string(),
            made_of(&image.recipe),
            escape(&image.kernel_release),
            format!("{} MB", usage.bytes / 1_000_000),
            image.id().chars().take(12).collect(),
        ]
    });
    table(["PROFILE", "MADE OF", "KERNEL", "ON DISK", "IMAGE"], Some(3), rows)
}

/// The origin of an image, in a word or two.
fn made_of(recipe: &ImageRecipe) -> String {
    match recipe {
        ImageRecipe::Debian(recipe) => escape(&recipe.suite),
        ImageRecipe::Imported(import) => format!("imported ({})", import.form),
    }
}

/// A line for each template.
pub fn templates_table(templates: &[ListedTemplate], now: &ClockReading) -> String {
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
    let titles = ["TEMPLATE", "PROFILE", "RUNS ON", "SIZE", "ON DISK", "MADE", "LAST USED"];
    table(titles, Some(4), rows)
}

/// A line for each check, with its remedy below.
pub fn checks_table(checks: &[HostCheck], paint: StreamColor) -> String {
    let mut lines = Vec::new();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let verdict = match check.verdict {
            CheckVerdict::Ok => paint.paint(TextTone::Good, "ok"),
            CheckVerdict::Warning => paint.paint(TextTone::Caution, "--"),
            CheckVerdict::Failed => paint.paint(TextTone::Bad, "no"),
        };
        lines.push(format!("{verdict}  {:width$}  {}", check.name, escape(&check.detail)));
        if let Some(remedy) = &check.remedy {
            lines.push(format!("    {:width$}  => {}", "", escape(remedy)));
        }
    }
    lines.join("\n")
}

/// Columns separated by spaces only, as in `docker ps` and `kubectl get`, which suits `awk`. `right` is the
/// column that is aligned to the right.
fn table<const N: usize>(
    titles: [&str; N],
    right: Option<usize>,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles).add_rows(rows);
    if let Some(column) = right.and_then(|right| table.column_mut(right)) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
}

fn size(vcpu_count: u32, mem_mib: u32) -> String {
    format!("{vcpu_count} CPU, {}", MemMib(mem_mib))
}

/// A time in the past, in its largest unit.
fn ago(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "m"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}
