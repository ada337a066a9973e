//! How the source is laid out: which room may import which, and that no files import each other.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Module, SourceTree};

/// The rooms, and the rooms that each may import, from the top down. A room imports only rooms further
/// down, and a permission that a room does not use is taken away.
const PLAN: &[(&str, &str)] = &[
    ("cli", "commands host import model network output settings"),
    ("commands", "archive guest host image import lifecycle model output protocol settings"),
    ("output", "archive guest host image lifecycle model protocol settings sys template"),
    (
        "lifecycle",
        "archive backend guest host image import model network protocol pull registry settings sys template",
    ),
    ("guest", "host model protocol sys"),
    ("backend", "host model protocol sys"),
    ("pull", "host image import model sys"),
    ("import", "archive host image model sys"),
    ("template", "host image model sys"),
    ("image", "host model sys"),
    ("network", "host model protocol sys"),
    ("registry", "host model sys"),
    ("settings", "host model"),
    ("host", "model sys"),
    ("model", ""),
    ("agent", "archive protocol sys"),
    ("archive", "sys"),
    ("protocol", ""),
    ("sys", ""),
];

/// Longer files have more than one reason to exist.
const MOST_LINES: usize = 400;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// As [`SourceTree::arrows`].
fn arrows(passed_on: bool) -> BTreeMap<Module, BTreeSet<Module>> {
    let arrows = SourceTree::read(&src()).arrows(passed_on);
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(count > 500, "only {count} imports were found: the check does not see them");
    arrows
}

#[test]
fn rooms_import_what_the_plan_says_and_nothing_else() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, others) in arrows(true) {
        let rooms = others.iter().map(|other| other[0].clone());
        let others: Vec<String> = rooms.filter(|room| *room != module[0]).collect();
        used.entry(module[0].clone()).or_default().extend(others);
    }
    let planned: BTreeMap<String, BTreeSet<String>> = PLAN
        .iter()
        .map(|(room, others)| {
            (room.to_string(), others.split_whitespace().map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(used, planned, "left: what the rooms import; right: the plan");
}

#[test]
fn the_plan_goes_one_way() {
    for (place, (room, others)) in PLAN.iter().enumerate() {
        let below: Vec<&str> = PLAN[place + 1..].iter().map(|(room, _)| *room).collect();
        for other in others.split_whitespace() {
            assert!(below.contains(&other), "{room} imports {other}, which is above it");
        }
    }
}

#[test]
fn no_files_import_each_other() {
    let mut arrows = arrows(false);
    // Without the files that import nothing, again and again, what is left are circles and what leads
    // to them.
    loop {
        let ends: BTreeSet<Module> =
            arrows.iter().filter(|(_, others)| others.is_empty()).map(|(m, _)| m.clone()).collect();
        if ends.is_empty() {
            break;
        }
        arrows.retain(|module, _| !ends.contains(module));
        arrows.values_mut().for_each(|others| others.retain(|other| !ends.contains(other)));
    }
    // And without those that nothing imports, only circles and what is between two of them.
    loop {
        let imported: BTreeSet<Module> = arrows.values().flatten().cloned().collect();
        let before = arrows.len();
        arrows.retain(|module, _| imported.contains(module));
        if arrows.len() == before {
            break;
        }
    }
    let lines: Vec<String> = arrows
        .iter()
        .map(|(module, others)| {
            let others: Vec<String> = others.iter().map(|other| other.join("/")).collect();
            format!("{} imports {}", module.join("/"), others.join(", "))
        })
        .collect();
    assert!(lines.is_empty(), "circles of files:\n{}", lines.join("\n"));
}

#[test]
fn files_are_short_and_named_after_what_they_do() {
    for file in sources(&src()) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.display());
        let says_nothing = ["utils", "util", "helpers", "common", "misc"].contains(&name);
        assert!(!says_nothing, "{}", file.display());
    }
}

#[test]
fn a_public_type_has_a_name_of_its_own() {
    // Every verb has its flags in `Args`, and groups of verbs an `Action` for each of theirs.
    let shared = ["Args", "Action"];
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in sources(&src()) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let Some(rest) = line.trim_start().strip_prefix("pub") else { continue };
            let rest = rest
                .split_once(") ")
                .map_or(rest, |(scope, rest)| if scope.starts_with('(') { rest } else { scope });
            let mut words =
                rest.split(|c: char| !c.is_alphanumeric() && c != '_').skip_while(|w| w.is_empty());
            if let (Some("struct" | "enum" | "trait" | "type" | "union"), Some(name)) =
                (words.next(), words.next())
            {
                places.entry(name.to_owned()).or_default().push(file.clone());
            }
        }
    }
    assert!(places.len() > 200, "only {} types were found", places.len());
    places.retain(|name, files| files.len() > 1 && !shared.contains(&name.as_str()));
    assert!(places.is_empty(), "names with more than one meaning: {places:#?}");
}
