//! Escape sequences in text of a guest, a file or an argument are escaped. Only a command's own output is unchanged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::archives::{Image, layer, oci};
use crate::support::answer::Answer;
use crate::support::environment::Environment;

/// Escape sequences, a bell, a carriage return, a C1 control, an override of the text's direction, and lines.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\r\u{9b}31m\u{202e}evil\nforged\r\nforged";

#[track_caller]
fn assert_harmless(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text:?}");
    for character in text.chars() {
        let bad = (character.is_control() && character != '\n' && character != '\t')
            || ('\u{202a}'..='\u{202e}').contains(&character);
        assert!(!bad, "{character:?} in {text:?}");
    }
}

#[test]
fn escape_sequences_in_arguments_are_refused_and_escaped() {
    let env = Environment::mock();
    for args in [
        &["create", "--name", HOSTILE][..],
        &["create", "-p", HOSTILE],
        &["start", HOSTILE],
        &["rm", "-f", HOSTILE],
        &["status", HOSTILE],
        &["create", "--vcpus", HOSTILE],
        &["create", "--mem", HOSTILE],
        &["create", "--ttl", HOSTILE],
        &["create", "--backend", HOSTILE],
        &["image", "rm", HOSTILE],
        &[HOSTILE],
        &["create", &format!("--{HOSTILE}")],
        &["create", "--json", "--vcpus", HOSTILE],
        &["start", "--json", HOSTILE],
    ] {
        let answer = env.run(args);
        assert_ne!(answer.code(), 0, "{answer}");
        assert!(answer.stdout.is_empty(), "{answer}");
        assert_harmless(&answer.stderr);
    }
    assert_harmless(&env.run(&[OsStr::from_bytes(b"\xff\x1b[2J")]).stderr);
}

#[test]
fn escape_sequences_of_a_guest_are_escaped_in_errors() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    for args in [
        &["exec", "--keep", &id, "--", HOSTILE][..],
        &["exec", "--keep", &id, "-w", HOSTILE, "--", "true"],
        &["exec", "--keep", &id, "-u", HOSTILE, "--", "true"],
        &["exec", "--keep", &id, "-e", HOSTILE, "--", "true"],
    ] {
        let answer = env.run(args);
        assert_ne!(answer.code(), 0, "{answer}");
        assert!(answer.stderr().contains("evil"), "it is named: {answer}");
        assert_harmless(&answer.stderr);
    }
    env.clear();
}

#[test]
fn escape_sequences_in_profiles_are_escaped() {
    let mut env = Environment::mock();
    env.profiles("[profiles.debian-base]\ndescription = \"\\u001b[2J\\u202eevil\"\n");
    assert_harmless(&env.run(&["profiles"]).stdout);
    assert_harmless(&env.run(&["profiles", "--json"]).stdout);
    env.profiles("[profiles.\"\\u001b[2J\"]\n");
    assert_harmless(&env.run(&["profiles"]).stderr);
    env.profiles(&format!("[profiles.debian-base]\n\"{}\" = 1\n", "\\u001b[2J"));
    assert_harmless(&env.run(&["profiles"]).stderr);
}

/// Lines that look like mayfly's own.
const FORGED: &str = "x\nmayfly: all is well\nhint: run this";

#[track_caller]
fn assert_not_forged(answer: &Answer, lines: usize) {
    let text = answer.stderr();
    assert!(text.contains("\\nmayfly: all is well\\nhint: run this"), "{answer}");
    assert_eq!(text.lines().count(), lines, "{answer}");
}

#[test]
fn no_file_archive_or_argument_begins_a_line() {
    let mut env = Environment::mock();
    let archive = env.root().join("a.tar");
    // Names of images in an archive.
    let image = Image::of(&[layer(&[("etc/a", "")])]);
    let (other, name) = (Image::of(&[layer(&[("etc/b", "")])]), format!("{FORGED} 2"));
    std::fs::write(&archive, oci(&[(FORGED, &image), (&name, &other)])).unwrap();
    assert_not_forged(&env.run(&["image", "import", "a.tar"]), 2);
    // Raw text in the error of a parser.
    let unknown = serde_json::json!({ FORGED: 1 }).to_string();
    std::fs::create_dir_all(env.state()).unwrap();
    std::fs::set_permissions(env.state(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(env.registry(), &unknown).unwrap();
    let answer = env.run(&["status"]);
    assert_not_forged(&answer, answer.stderr().lines().count().min(2));
    let error = env.run(&["status", "--json"]).json_error(1);
    assert!(error["message"].as_str().unwrap().contains("\\nmayfly: all"), "{error}");
    std::fs::remove_file(env.registry()).unwrap();
    // Arguments, and files.
    env.file(FORGED, "");
    assert_not_forged(&env.run(&["image", "import", FORGED]), 1);
    env.set("MAYFLY_PROFILES", env.root().join(FORGED).join("profiles"));
    assert_not_forged(&env.run(&["profiles"]), 1);
}

#[test]
fn a_commands_own_stream_is_raw() {
    let env = Environment::mock();
    let answer = env.run(&["run", "--", "printf", "%s", HOSTILE]);
    assert_eq!(answer.stdout, HOSTILE.as_bytes());
}
