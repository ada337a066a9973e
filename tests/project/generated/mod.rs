//! Man pages, completion scripts and the README's table of verbs are committed files, generated from the command
//! line's definition. These tests fail if they are stale; with `MAYFLY_BLESS=1` (`make generate`) they
//! rewrite the files.

mod file_pages;
mod page;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mayfly::commands::completions::{ShellKind, script};
use mayfly::settings::{BUILT_IN, merge};

/// A directory of this repository.
fn top(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn is_blessed() -> bool {
    std::env::var_os("MAYFLY_BLESS").is_some_and(|value| value == "1")
}

/// Compares a file with its text, or rewrites it. Returns whether it is right.
#[must_use]
fn is_generated(path: &Path, text: &str) -> bool {
    let is_right = fs::read_to_string(path).is_ok_and(|found| found == text);
    if !is_right && is_blessed() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    is_right || is_blessed()
}

/// Compares a directory with the wanted files, by name, or writes them.
fn check(directory: &str, wanted: &BTreeMap<String, String>) {
    let directory = top(directory);
    let mut wrong = Vec::new();
    for (name, text) in wanted {
        let path = directory.join(name);
        if !is_generated(&path, text) {
            wrong.push(format!("{} is stale", path.display()));
        }
    }
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        if wanted.contains_key(entry.file_name().to_str().unwrap()) {
            continue;
        }
        if is_blessed() {
            fs::remove_file(entry.path()).unwrap();
        } else {
            wrong.push(format!("{} should not exist", entry.path().display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nrun 'make generate'", wrong.join("\n"));
}

#[test]
fn man_pages_are_up_to_date() {
    let mut pages = page::all(mayfly::cli::command());
    pages.insert("mayfly-config.5".into(), file_pages::config());
    pages.insert("mayfly-profiles.5".into(), file_pages::profiles());
    check("man", &pages);
}

#[test]
fn the_verbs_in_the_readme_are_up_to_date() {
    let readme = fs::read_to_string(top("README.md")).unwrap();
    let (before, table) = readme.split_once("| verb | does |\n|---|---|\n").unwrap();
    let (_, after) = table.split_once("\n\n").unwrap();
    let tree = mayfly::cli::command();
    let mut text = format!("{before}| verb | does |\n|---|---|\n");
    for verb in tree.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let about = verb.get_about().unwrap();
        text.push_str(&format!("| `mayfly {}` | {about} |\n", verb.get_name()));
    }
    text.push_str(&format!("\n{after}"));
    assert!(is_generated(&top("README.md"), &text), "run 'make generate'");
}

#[test]
fn the_example_in_the_config_page_is_valid() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("config.toml");
    fs::write(&file, file_pages::CONFIG_EXAMPLE).unwrap();
    let mut show = assert_cmd::Command::new(env!("CARGO_BIN_EXE_mayfly"));
    show.args(["config", "show", "mem", "vcpus", "ttl", "require", "artifacts_dir"]);
    let shown = show.env_clear().env("HOME", scratch.path()).env("MAYFLY_CONFIG", &file).assert();
    let output = shown.success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches(file.to_str().unwrap()).count(), 5, "{text}");
}

#[test]
fn the_example_in_the_profiles_page_is_valid() {
    let own = ("the example".to_owned(), file_pages::PROFILES_EXAMPLE.to_owned());
    let merged = merge(&[("built-in".to_owned(), BUILT_IN.to_owned()), own]).unwrap();
    assert_eq!(merged.limits.max_active_vms, 8);
    assert_eq!(merged.profiles["python"].ttl_seconds, 3600);
}

#[test]
fn completions_are_up_to_date() {
    let scripts = [
        ("mayfly.bash", ShellKind::Bash),
        ("_mayfly", ShellKind::Zsh),
        ("mayfly.fish", ShellKind::Fish),
    ];
    let scripts = scripts.map(|(name, shell)| (name.to_owned(), script(shell).unwrap()));
    check("completions", &scripts.into());
}
