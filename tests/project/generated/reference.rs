//! Compares the reference part of `mayfly --help` with the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mayfly::model::RefusalKind;
use mayfly::output::MAYFLY_FAILED;

use super::top;
use crate::support::command_lines::{check, words};

/// Variables that only mayfly's own children or scripts use.
const INTERNAL: [&str; 6] = [
    "MAYFLY_COMPLETE",
    "MAYFLY_KERNEL_DIR",
    "MAYFLY_KERNEL_PACKAGE",
    "MAYFLY_KERNEL_SCRIPT",
    "MAYFLY_VM_DIR",
    "MAYFLY_VM_PROOF",
];

fn long_help() -> String {
    mayfly::cli::command().render_long_help().to_string()
}

/// The mayfly variables that a text names.
fn variables(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_uppercase() || c == '_');
    text.split(word)
        .filter(|name| name.len() > "MAYFLY_".len() && name.starts_with("MAYFLY_"))
        .map(str::to_owned)
        .collect()
}

fn sources(directory: &Path, texts: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, texts);
        } else if !["cli/manual.rs", "output/json_page.rs"].iter().any(|name| path.ends_with(name))
        {
            // Variables that a file's own tests set are no interface.
            let text = fs::read_to_string(&path).unwrap();
            texts.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

#[test]
fn every_variable_is_documented_and_every_documented_one_exists() {
    let mut texts = String::new();
    sources(&top("src"), &mut texts);
    let mut used = variables(&texts);
    // This is a constant, not a variable.
    used.remove("MAYFLY_FAILED");
    for name in INTERNAL {
        assert!(used.remove(name), "{name} is not used");
    }
    let help = long_help();
    let (_, section) = help.split_once("\nEnvironment:\n").unwrap();
    let (section, _) = section.split_once("\nFiles:\n").unwrap();
    assert_eq!(variables(section), used);
}

#[test]
fn every_exit_code_is_documented() {
    let kinds = [
        RefusalKind::Usage,
        RefusalKind::NotFound,
        RefusalKind::Expired,
        RefusalKind::WrongState,
        RefusalKind::NameTaken,
        RefusalKind::LimitReached,
        RefusalKind::Busy,
        RefusalKind::Host,
        RefusalKind::Agent,
        RefusalKind::Failure,
    ];
    let mut codes: BTreeSet<u8> = kinds.map(RefusalKind::exit_code).into();
    // Success, and the codes that stand for a command without a code of its own.
    codes.extend([0, 124, MAYFLY_FAILED, 126, 127]);
    // The signals that usually end a program: SIGHUP, SIGINT, SIGTERM.
    codes.extend([1, 2, 15].map(|signal| 128 + signal));
    let help = long_help();
    let (_, section) = help.split_once("\nExit status:\n").unwrap();
    let (section, _) = section.split_once("\nEnvironment:\n").unwrap();
    let documented: BTreeSet<u8> =
        section.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(documented, codes);
}

#[test]
fn the_program_takes_the_command_lines_of_its_examples() {
    fn walk(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().filter(|line| line.starts_with("  "));
        let examples: Vec<_> = examples.filter_map(words).collect();
        assert!(!examples.is_empty(), "no examples of '{}'", command.get_name());
        examples.iter().for_each(|words| check(words));
        command.get_subcommands().for_each(walk);
    }
    walk(&mayfly::cli::command());
}
