//! The house's plan, checked: imports run one way.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, and the rooms each may look into. What is not listed is forbidden.
const PLAN: &[(&str, &[&str])] = &[
    ("cli", &["commands", "host", "import", "model", "output", "settings"]),
    (
        "commands",
        &[
            "archive",
            "guest",
            "host",
            "image",
            "import",
            "lifecycle",
            "model",
            "output",
            "protocol",
            "registry",
            "settings",
        ],
    ),
    ("output", &["archive", "guest", "host", "image", "lifecycle", "model", "sys", "template"]),
    (
        "lifecycle",
        &[
            "archive", "backend", "guest", "host", "image", "import", "model", "protocol",
            "registry", "settings", "sys", "template",
        ],
    ),
    ("guest", &["host", "model", "protocol", "sys"]),
    ("backend", &["host", "model", "protocol", "sys"]),
    ("import", &["archive", "host", "image", "model", "sys"]),
    ("image", &["host", "model", "sys"]),
    ("template", &["host", "image", "model", "sys"]),
    ("registry", &["host", "model"]),
    ("settings", &["host", "model"]),
    ("host", &["model", "sys"]),
    ("model", &[]),
    ("protocol", &[]),
    ("archive", &["sys"]),
    ("agent", &["archive", "protocol", "sys"]),
    ("sys", &[]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms a source text looks into: every `crate::room`, in code or documentation.
fn looks_into(text: &str) -> Vec<&str> {
    text.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').collect(),
            None => vec![rest],
        })
        .map(|name| {
            let name = name.trim();
            let end =
                name.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(name.len());
            &name[..end]
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_run_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for file in &files {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let Some((_, allowed)) = PLAN.iter().find(|(name, _)| *name == room) else { continue };
        for other in looks_into(&fs::read_to_string(file).unwrap()) {
            arrows += 1;
            let known = PLAN.iter().any(|(name, _)| *name == other);
            if known && other != room && !allowed.contains(&other) {
                wrong.push(format!("{} looks into {other}", inside.display()));
            }
        }
    }
    assert!(arrows > 100, "the check found only {arrows} imports: it is looking at nothing");
    assert!(wrong.is_empty(), "arrows against the plan:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_is_on_the_plan() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let room = name.trim_end_matches(".rs");
        let outside = ["lib", "main", "bin"].contains(&room);
        assert!(outside || PLAN.iter().any(|(name, _)| *name == room), "{room} has no place");
    }
}

#[test]
fn an_arrow_against_the_plan_is_seen() {
    assert_eq!(
        looks_into("use crate::cli::App;\nuse crate::{host::lock, model};"),
        ["cli", "host", "model"]
    );
}

#[test]
fn no_room_is_a_drawer_for_odds_and_ends() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["utils", "util", "helpers", "common", "misc"].contains(&name),
            "{}",
            file.display()
        );
    }
}
