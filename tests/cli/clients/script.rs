//! A shell script with `set -euo pipefail` that uses every verb.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{ArgMatches, Command};

use crate::support::environment::Environment;
use crate::support::programs;

/// All verbs below this command: `image build`, not `image`.
fn verbs(command: &Command, above: &[&str], found: &mut BTreeSet<String>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let words = [above, &[verb.get_name()]].concat();
        if verb.has_subcommands() {
            verbs(verb, &words, found);
        } else {
            found.insert(words.join(" "));
        }
    }
}

/// The verb of a command line.
fn verb_of(mut matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    while let Some((word, below)) = matches.subcommand() {
        words.push(word);
        matches = below;
    }
    words.join(" ")
}

#[test]
fn every_verb_can_be_relied_on_by_its_exit_code_and_json() {
    let env = Environment::qemu();
    // A wrapper with the name mayfly that logs its arguments: words end with a null, command lines with a line end.
    let notes = env.root().join("notes");
    let noting = env.root().join("noting");
    fs::create_dir(&noting).unwrap();
    let mayfly = env.file(
        "noting/mayfly",
        &format!(
            "#!/bin/bash\nprintf '%s\\0' \"$@\" >> '{notes}'\n\
             printf '\\n' >> '{notes}'\nexec '{mayfly}' \"$@\"\n",
            notes = notes.display(),
            mayfly = programs::mayfly().display()
        ),
    );
    fs::set_permissions(&mayfly, Permissions::from_mode(0o755)).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/clients/every-verb.sh");
    let mut command = env.client("bash", &[script]);
    let path = command.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value));
    let mut path_with_notes = noting.into_os_string();
    path_with_notes.push(":");
    path_with_notes.push(path.flatten().unwrap());
    command.env("PATH", path_with_notes);
    let output = assert_cmd::Command::from_std(command)
        .timeout(std::time::Duration::from_secs(240))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    let notes = fs::read_to_string(notes).unwrap();
    let called: BTreeSet<String> = notes
        .split_terminator('\n')
        .map(|line| {
            let words = std::iter::once("mayfly").chain(line.split_terminator('\0'));
            let words: Vec<OsString> = words.map(OsString::from).collect();
            verb_of(&mayfly::cli::parse(&words).expect("mayfly took it"))
        })
        .collect();
    let mut there_are = BTreeSet::new();
    verbs(&mayfly::cli::command(), &[], &mut there_are);
    assert_eq!(called, there_are, "verbs called by every-verb.sh, and verbs there are");
}
