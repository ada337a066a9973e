//! `make install` and `make uninstall`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn make(goal: &str, destination: &Path) {
    let built = Path::new(env!("CARGO_BIN_EXE_mayfly")).parent().unwrap();
    let output = Command::new("make")
        .arg(goal)
        .arg("PREFIX=/usr")
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("RELEASE={}", built.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // These tests may themselves be run by make.
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .output()
        .expect("make is installed");
    assert!(output.status.success(), "{output:?}");
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn everything_has_its_usual_place_and_the_command_finds_its_agent() {
    let scratch = tempfile::tempdir().unwrap();
    let destination = scratch.path().join("destination");
    make("install", &destination);

    let installed = files(&destination);
    for place in [
        "usr/bin/mayfly",
        "usr/bin/mayfly-agent",
        "usr/share/man/man1/mayfly.1",
        "usr/share/man/man1/mayfly-run.1",
        "usr/share/man/man5/mayfly-config.5",
        "usr/share/man/man5/mayfly-profiles.5",
        "usr/share/bash-completion/completions/mayfly",
        "usr/share/zsh/site-functions/_mayfly",
        "usr/share/fish/vendor_completions.d/mayfly.fish",
        "usr/share/doc/mayfly/README.md",
        "usr/share/doc/mayfly/docs/security.md",
        "usr/share/doc/mayfly/docs/adr/0005-images.md",
        "usr/share/doc/mayfly/profiles.toml",
        "usr/share/doc/mayfly/LICENSE-MIT",
    ] {
        assert!(installed.contains(Path::new(place)), "{place} is not in {installed:#?}");
    }

    let output =
        run(&destination.join("usr/bin/mayfly"), scratch.path(), &["run", "-c", "echo $0"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bash\n", "{output:?}");
    assert!(output.status.success(), "{output:?}");

    make("uninstall", &destination);
    assert_eq!(files(&destination), BTreeSet::new());
}

/// Runs the installed program through a symbolic link, as some package managers make them.
fn run(program: &Path, scratch: &Path, args: &[&str]) -> Output {
    let link = scratch.join("mayfly");
    std::os::unix::fs::symlink(program, &link).unwrap();
    Command::new(link)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", scratch)
        .env("MAYFLY_STATE_DIR", scratch.join("state"))
        .env("MAYFLY_RUNTIME_DIR", scratch.join("run"))
        .env("MAYFLY_BACKEND", "mock")
        .output()
        .unwrap()
}
