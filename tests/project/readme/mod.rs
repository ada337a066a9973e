//! Checks the README and the pages in docs: runs their examples, and compares their tables with the code.

mod contributing;
mod links;
mod markdown;
mod pasted;
mod shell;
mod tables;

use std::fs;
use std::path::Path;

use markdown::{Block, blocks, compare, pages};
use shell::Shell;

use crate::support::command_lines::{check, words};
use crate::support::images;

/// The blocks of a page in this language.
fn blocks_of(page: &str, language: &str) -> Vec<Block> {
    let found: Vec<Block> =
        blocks(page).into_iter().filter(|block| block.language == language).collect();
    assert!(!found.is_empty(), "{page} has no {language} block");
    found
}

/// All blocks of all pages.
fn all_blocks() -> Vec<Block> {
    pages().iter().flat_map(|page| blocks(page)).collect()
}

#[test]
fn sh_blocks_print_the_next_block_on_the_mock_backend() {
    let all = all_blocks();
    let mut compared = 0;
    for (index, block) in all.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        let shell = Shell::new("mock", None);
        let printed = shell.ok(&block.text);
        let belongs = |next: &&Block| next.language == "text" && next.page == block.page;
        match all.get(index + 1).filter(belongs) {
            Some(next) => {
                compare(&next.text, &printed, next);
                compared += 1;
            }
            None => {
                assert_eq!(printed, "", "{}, line {}, prints something", block.page, block.line)
            }
        }
        shell.assert_empty();
    }
    assert!(compared > 0, "no output was compared");
}

#[test]
fn console_blocks_are_the_output_of_a_real_vm() {
    let artifacts = images::artifacts("debian-base");
    for block in all_blocks().into_iter().filter(|block| block.language == "console") {
        let shell = Shell::new("auto", Some(artifacts.clone()));
        let turns: Vec<&str> = block.text.split("$ ").skip(1).collect();
        let turns: Vec<(&str, &str)> =
            turns.iter().map(|turn| turn.split_once('\n').unwrap()).collect();
        let commands: Vec<&str> = turns.iter().map(|(command, _)| *command).collect();
        let outputs = shell.transcript(&commands);
        for ((_, documented), printed) in turns.iter().zip(outputs) {
            compare(documented, &printed, &block);
        }
        shell.assert_empty();
    }
}

#[test]
fn the_makefile_example_runs() {
    let shell = Shell::new("mock", None);
    let [block] = blocks_of("README.md", "makefile").try_into().unwrap();
    let makefile = format!("{}\ntest:\n\t@echo tested\n", block.text);
    fs::write(shell.directory().join("Makefile"), makefile).unwrap();
    // These tests may themselves be run by make.
    let printed = shell.ok("make --no-print-directory vm-test");
    assert!(printed.ends_with("tested\n"), "{printed}");
    shell.assert_empty();
}

#[test]
fn commands_of_the_tour_are_valid() {
    let commands: Vec<_> = tour().iter().filter_map(|line| words(line)).collect();
    assert!(commands.len() > 5, "only {} commands were found", commands.len());
    commands.iter().for_each(|words| check(words));
}

#[test]
fn the_picture_shows_the_current_tour() {
    let picture = markdown::page("docs/tour.svg");
    let (_, described) = picture.split_once("<desc id=\"what\">").unwrap();
    let (described, _) = described.split_once("</desc>").unwrap();
    let shown: Vec<String> = described
        .lines()
        .map(|line| line.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
        .collect();
    assert_eq!(shown, tour(), "run `make tour`");
}

/// What scripts/tour types at its prompt.
fn tour() -> Vec<String> {
    let script = markdown::page("scripts/tour");
    let typed = script.lines().filter_map(|line| line.split_once("typed "));
    let quoted = typed.filter_map(|(_, typed)| match typed.split_at(1) {
        ("'", text) => text.strip_suffix('\'').map(str::to_owned),
        ("\"", text) => text.strip_suffix('"').map(|text| text.replace("\\$", "$")),
        _ => None,
    });
    quoted.collect()
}

#[test]
fn every_command_line_is_valid() {
    let mut seen = 0;
    for block in all_blocks() {
        let lines = block.text.lines().filter(|line| match block.language.as_str() {
            "console" => line.starts_with("$ "),
            // These are run, and may contain shell variables.
            "sh" => false,
            "text" | "toml" => false,
            _ => !line.trim_start().starts_with('#'),
        });
        for words in lines.filter_map(words) {
            check(&words);
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} command lines were found");
}

#[test]
fn quoted_messages_exist() {
    let text = markdown::page("docs/troubleshooting.md");
    let quoted = text.lines().filter_map(|line| line.strip_prefix("- **`")?.split_once("`**"));
    let quoted: Vec<&str> =
        quoted.map(|(message, _)| message).filter(|text| text.contains(' ')).collect();
    assert!(quoted.len() > 2, "only {} messages were found", quoted.len());
    let mut sources = Vec::new();
    read_all(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut sources);
    for message in quoted {
        // What varies, as `…` or in parentheses, ends a part.
        let parts: Vec<&str> =
            message.split(['…', '(']).take_while(|part| !part.ends_with(')')).collect();
        let has_parts = |source: &String| parts.iter().all(|part| source.contains(part.trim()));
        assert!(sources.iter().any(has_parts), "no message says {message:?}");
    }
}

/// The text of all files below a directory.
fn read_all(directory: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, texts);
        } else {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
}
