//! Checks the links between pages and to other files of the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::markdown::{page, pages};

/// A page's text without its fenced blocks.
fn prose(text: &str) -> String {
    let parts = text.split("```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

/// The name of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// The targets of a page's links, without those to other sites.
fn targets(text: &str) -> Vec<String> {
    let text = prose(text);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}

#[test]
fn links_lead_to_existing_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for path in pages() {
        let text = page(&path);
        for target in targets(&text) {
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let beside = root.join(&path).parent().unwrap().join(file);
            let file = if file.is_empty() { root.join(&path) } else { beside };
            assert!(file.exists(), "{path} links to {target}: there is no such file");
            if !heading.is_empty() {
                let there = anchors(&fs::read_to_string(&file).unwrap());
                assert!(there.contains(heading), "{path} links to {target}: it has {there:?}");
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links were found");
}

#[test]
fn the_readme_links_to_every_page() {
    let linked: BTreeSet<PathBuf> =
        targets(&page("README.md")).into_iter().map(Into::into).collect();
    for path in pages().iter().filter(|path| *path != "README.md") {
        assert!(linked.contains(Path::new(path)), "the README has no link to {path}");
    }
}

#[test]
fn headings_are_named_as_github_does() {
    assert_eq!(anchor("cron and systemd"), "cron-and-systemd");
    assert_eq!(anchor("VMs in VMs: how?"), "vms-in-vms-how");
}
