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

/// The columns of [`status_text`].
const STATUS: [&str; 8] =
    ["VM", "NAME", "PROFILE", "STATE", "RUNS ON", "ISOLATION", "SIZE", "LEFT"];

/// VMs for people: with `--quiet` their ids alone, a line each.
pub fn status_text(printer: Printer, records: &[VmRecord], now: &ClockReading) -> String {
    if printer.style.quiet {
        return records.iter().map(|vm| vm.id().as_str()).collect::<Vec<_>>().join("\n");
    }
    status_table(records, now, printer.paint())
}

/// A line for each VM.
fn status_table(records: &[VmRecord], now: &ClockReading, paint: StreamColor) -> String {
    let mut table = bare(&STATUS);
    let mut states = Vec::new();
    for record in records {
        let manifest = &record.manifest;
        let runs_on = match manifest.accelerator {
            Accelerator::None => manifest.backend.to_string(),
            // Only shown for root: an ordinary user's VMs never have a jail.
            accelerator if manifest.lacks_jail() => {
                format!("{}/{accelerator}, no jail", manifest.backend)
            }
            accelerator => format!("{}/{accelerator}", manifest.backend),
        };
        let (state, tone) = state(record);
        table.add_row([
            manifest.vm_id.to_string(),
            manifest.name.as_ref().map_or("-".into(), ToString::to_string),
            manifest.profile.to_string(),
            state.clone(),
            runs_on,
            manifest.isolation().to_string(),
            format!("{} CPU, {}", manifest.vcpu_count, MemMib(manifest.mem_mib)),
            left(record.expiry.remaining(now)),
        ]);
        states.push((state, tone));
    }
    painted(&finish(table), "STATE", &states, paint)
}

/// A VM's state, and the colour for it.
fn state(record: &VmRecord) -> (String, Option<TextTone>) {
    let name = record.state.name();
    if let Some(error) = record.last_error() {
        return (format!("{name} ({})", first_line(error)), Some(TextTone::Bad));
    }
    let tone = match &record.state {
        VmPhase::Created | VmPhase::Stopped { .. } => None,
        VmPhase::Started { .. } => Some(TextTone::Good),
        _ => Some(TextTone::Doubtful),
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
    let mut table = bare(&["PROFILE", "IMAGE", "CPUS", "MEMORY", "TTL", "DESCRIPTION"]);
    for profile in profiles {
        let image = if built.contains(&profile.name) { "built" } else { "not built" };
        table.add_row([
            profile.name.to_string(),
            image.to_owned(),
            profile.vcpu_count.to_string(),
            MemMib(profile.mem_mib).to_string(),
            TimeSpan(std::time::Duration::from_secs(profile.ttl_seconds)).to_string(),
            escape(&profile.description),
        ]);
    }
    finish(table)
}

/// A line for each setting: its key, its value, and where that comes from.
pub fn settings_table(rows: impl Iterator<Item = [String; 3]>) -> String {
    let mut table = bare(&["KEY", "VALUE", "FROM"]);
    for row in rows {
        table.add_row(row.map(|cell| escape(&cell)));
    }
    finish(table)
}

/// A line for each image.
pub fn images_table(images: &[(ImageInfo, DiskUsage)]) -> String {
    let mut table = bare(&["PROFILE", "MADE OF", "KERNEL", "ON DISK", "IMAGE"]);
    for (image, usage) in images {
        table.add_row([
            image.profile.to_string(),
            made_of(&image.recipe),
            escape(&image.kernel_release),
            format!("{} MB", usage.bytes / 1_000_000),
            image.id().chars().take(12).collect(),
        ]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(table)
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
    let mut table =
        bare(&["TEMPLATE", "PROFILE", "RUNS ON", "SIZE", "ON DISK", "MADE", "LAST USED"]);
    for template in templates {
        let info = template.info.as_ref();
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".into());
        table.add_row([
            escape(&template.name),
            info.map_or("(damaged)".into(), |info| info.profile.to_string()),
            or_unknown(info.map(|info| format!("{}/{}", info.backend, info.accelerator))),
            or_unknown(
                info.map(|info| format!("{} CPU, {}", info.vcpu_count, MemMib(info.mem_mib))),
            ),
            format!("{} MB", template.bytes / 1_000_000),
            or_unknown(info.map(|info| ago(now.unix - info.made_at))),
            match template.last_used {
                0.0 => "?".into(),
                last_used => ago(now.unix - last_used),
            },
        ]);
    }
    if let Some(column) = table.column_mut(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(table)
}

/// A line for each check, with its remedy below.
pub fn checks_table(checks: &[HostCheck], paint: StreamColor) -> String {
    let mut lines = Vec::new();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let verdict = match check.verdict {
            CheckVerdict::Ok => paint.paint(TextTone::Good, "ok"),
            CheckVerdict::Warning => paint.paint(TextTone::Doubtful, "--"),
            CheckVerdict::Failed => paint.paint(TextTone::Bad, "no"),
        };
        lines.push(format!("{verdict}  {:width$}  {}", check.name, escape(&check.detail)));
        if let Some(remedy) = &check.remedy {
            lines.push(format!("    {:width$}  => {}", "", escape(remedy)));
        }
    }
    lines.join("\n")
}

/// Columns separated by spaces only, as in `docker ps` and `kubectl get`, which suits `awk`.
fn bare(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn finish(mut table: Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
}

fn left(seconds: f64) -> String {
    if seconds <= 0.0 {
        return "expired".into();
    }
    TimeSpan::whole(seconds).to_string()
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

fn first_line(error: &str) -> String {
    escape(error.lines().next().unwrap_or_default())
}
