//! Man pages, one for the program and one for each verb, generated from clap's definition.

use std::collections::BTreeMap;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

/// All pages by file name.
pub fn all(mut tree: Command) -> BTreeMap<String, String> {
    // "help" needs no page.
    tree = tree.disable_help_subcommand(true);
    let globals: Vec<String> = tree
        .get_arguments()
        .filter(|arg| arg.is_global_set() && !arg.is_hide_set())
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .collect();
    let mut pages = BTreeMap::new();
    add(&mut pages, &tree, &["mayfly"], &globals);
    pages
}

fn add(
    pages: &mut BTreeMap<String, String>,
    command: &Command,
    words: &[&str],
    globals: &[String],
) {
    for sub in command.get_subcommands() {
        let words = [words, &[sub.get_name()]].concat();
        add(pages, sub, &words, globals);
    }
    let command = command
        .clone()
        .disable_help_subcommand(true)
        .display_name(words.join("-"))
        .bin_name(words.join(" "));
    pages.insert(format!("{}.1", words.join("-")), page(command, words, globals));
}

fn page(mut command: Command, words: &[&str], globals: &[String]) -> String {
    let usage = command.render_usage().to_string();
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let siblings: Vec<String> = command
        .get_subcommands()
        .map(|sub| [words, &[sub.get_name()]].concat().join("-"))
        .collect();
    let is_top = words.len() == 1;
    let man = Man::new(command)
        .title(words.join("-").to_uppercase())
        .source(concat!("mayfly ", env!("CARGO_PKG_VERSION")))
        .manual("mayfly manual");

    let mut out = Vec::new();
    out.extend_from_slice(b".\\\" Written by 'make generate' from the program's own help.\n");
    man.render_title(&mut out).unwrap();
    man.render_name_section(&mut out).unwrap();
    synopsis(&usage, &words.join(" ")).to_writer(&mut out).unwrap();
    man.render_description_section(&mut out).unwrap();
    man.render_options_section(&mut out).unwrap();
    if !siblings.is_empty() {
        man.render_subcommands_section(&mut out).unwrap();
    }
    let mut rest = Roff::new();
    if !is_top {
        rest.control("SH", ["GLOBAL OPTIONS"]);
        rest.text([
            roman(format!("{} are described in ", globals.join(", "))),
            bold("mayfly"),
            roman("(1)."),
        ]);
    }
    sections(&mut rest, after.as_deref().unwrap_or_default());
    rest.control("SH", ["SEE ALSO"]);
    rest.text(see_also(words, &siblings));
    rest.to_writer(&mut out).unwrap();
    // troff wants a request for vertical space instead of a blank line.
    String::from_utf8(out).unwrap().replace("\n\n", "\n.sp\n")
}

fn synopsis(usage: &str, name: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (number, line) in usage.trim_start_matches("Usage:").trim().lines().enumerate() {
        if number > 0 {
            roff.control("br", []);
        }
        let rest = line.trim().strip_prefix(name).expect("usage starts with the command's name");
        roff.text([bold(name), roman(rest)]);
    }
    roff
}

/// Formats the text after the options. "Word:" alone on a line is a heading, an indented line is shown as it
/// is, and everything else is prose.
fn sections(roff: &mut Roff, text: &str) {
    for block in text.split("\n\n") {
        let mut lines = block.lines().peekable();
        match lines.next_if(|line| line.strip_suffix(':').is_some_and(is_title)) {
            Some(title) => {
                roff.control("SH", [title.trim_end_matches(':').to_uppercase().as_str()])
            }
            None => roff.control("PP", []),
        };
        let mut as_is = false;
        for line in lines {
            if line.starts_with("  ") != as_is {
                as_is = !as_is;
                roff.control(if as_is { "nf" } else { "fi" }, []);
            }
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        if as_is {
            roff.control("fi", []);
        }
    }
}

fn is_title(line: &str) -> bool {
    line.starts_with(char::is_uppercase) && line.split(' ').count() <= 2
}

fn see_also(words: &[&str], below: &[String]) -> Vec<Inline> {
    let above = (1..words.len()).map(|count| words[..count].join("-"));
    let mut line = Vec::new();
    for page in above.chain(below.iter().cloned()) {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(page), roman("(1)")]);
    }
    line
}
