//! Checks the lists of files in docs/contributing.md against the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::markdown::{page, tables};

/// A list of files to touch.
struct FileList {
    heading: &'static str,
    /// The most files it may have.
    most: usize,
    /// What its example occurs as. A file belongs to the list if it contains one of these outside of tests.
    marks: &'static [&'static str],
}

const LISTS: [FileList; 4] = [
    FileList {
        heading: "Add a verb",
        most: 4,
        marks: &["mod extend;", "extend::serve(", "lifecycle::extend(", "pub fn extend(manager"],
    },
    FileList {
        heading: "Add a key to profiles.toml",
        most: 6,
        marks: &["template_unused_seconds"],
    },
    FileList {
        heading: "Add a field to a VM's record",
        most: 5,
        marks: &[
            "labels: VmLabels",
            "    labels: BTreeMap<String, String>,",
            "labels: Default::default()",
            "VmLabels::collect(self.labels)",
        ],
    },
    FileList {
        heading: "Add a backend",
        most: 5,
        marks: &[
            "mod qemu;",
            "impl Backend for QemuBackend",
            "Choice::Qemu =>",
            "select(BackendChoice::Qemu)",
            "    Qemu,\n",
        ],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first path of each numbered item below a heading.
fn listed(heading: &str) -> Vec<String> {
    let text = page("docs/contributing.md");
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let items = section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    items.map(|item| item.split('`').nth(1).unwrap().to_owned()).collect()
}

/// Adds the files below a path that contain one of the marks.
fn find(path: &str, marks: &[&str], found: &mut BTreeSet<String>) {
    let absolute = root().join(path);
    if absolute.is_dir() {
        for entry in fs::read_dir(absolute).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            find(&format!("{path}/{name}"), marks, found);
        }
        return;
    }
    let text = fs::read_to_string(absolute).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    if marks.iter().any(|mark| code.contains(mark)) {
        found.insert(path.to_owned());
    }
}

#[test]
fn the_files_to_touch_are_listed_and_few() {
    for FileList { heading, most, marks } in LISTS {
        let paths = listed(heading);
        assert!(paths.len() <= most, "{heading}: {} files are too many", paths.len());
        let mut found = BTreeSet::new();
        for place in ["src", "benches", "profiles.toml"] {
            find(place, marks, &mut found);
        }
        assert_eq!(paths.into_iter().collect::<BTreeSet<_>>(), found, "{heading}");
    }
}

#[test]
fn rooms_are_described_in_the_order_of_imports() {
    let table = tables(&page("docs/contributing.md"), "room");
    let rooms: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    let directories = fs::read_dir(root().join("src")).unwrap().map(Result::unwrap);
    let existing: BTreeSet<String> = directories
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "bin")
        .collect();
    assert_eq!(rooms.iter().map(|&room| room.to_owned()).collect::<BTreeSet<_>>(), existing);
    for (number, lower) in rooms.iter().enumerate() {
        let uses: Vec<String> =
            rooms[..number].iter().map(|room| format!("\nuse crate::{room}::")).collect();
        let uses: Vec<&str> = uses.iter().map(String::as_str).collect();
        let mut upwards = BTreeSet::new();
        find(&format!("src/{lower}"), &uses, &mut upwards);
        assert!(upwards.is_empty(), "{lower} imports rooms above it: {upwards:?}");
    }
}

#[test]
fn named_files_exist() {
    let text = page("docs/contributing.md");
    let words = text.split('`').skip(1).step_by(2);
    let mut seen = 0;
    for path in words.filter(|word| word.contains('/') && !word.contains(' ')) {
        let below_src = root().join("src").join(path);
        assert!(root().join(path).exists() || below_src.exists(), "there is no {path}");
        seen += 1;
    }
    assert!(seen > 15, "only {seen} paths were found");
}
