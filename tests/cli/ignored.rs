//! `--exclude-ignored`: what git lists in a repository, and what patterns say elsewhere.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::environment::Environment;

/// Runs git, and returns its output.
fn git(env: &Environment, directory: &Path, args: &[&str]) -> Vec<u8> {
    let output = env
        .client(
            "git",
            &["-c", "user.name=x", "-c", "user.email=x@example", "-c", "init.defaultBranch=main"],
        )
        .args(["-c", "protocol.file.allow=always", "-c", "safe.directory=*"])
        .args(args)
        .current_dir(directory)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Files and links below a directory, without what is in `.git`.
fn files(top: &Path) -> BTreeSet<Vec<u8>> {
    let walk =
        walkdir::WalkDir::new(top).into_iter().filter_entry(|entry| entry.file_name() != ".git");
    walk.map(Result::unwrap)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| entry.path().strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec())
        .collect()
}

/// What git lists and exists.
fn listed(env: &Environment, directory: &Path) -> BTreeSet<Vec<u8>> {
    git(env, directory, &["ls-files", "-coz", "--exclude-standard"])
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .filter(|name| directory.join(OsStr::from_bytes(name)).symlink_metadata().is_ok())
        .map(<[u8]>::to_vec)
        .collect()
}

/// A repository with everything that makes a difference.
fn repository(env: &Environment) -> PathBuf {
    let top = env.root().join("top");
    fs::create_dir(&top).unwrap();
    git(env, &top, &["init", "-q"]);
    for (path, text) in [
        (".gitignore", "*.o\n/target\n!keep.o\nbuild/\n"),
        ("main.c", ""),
        ("main.o", ""),
        ("keep.o", ""),
        ("tracked.o", "tracked"),
        ("target/tracked", "tracked"),
        ("target/other", ""),
        ("build/deep/tracked", "tracked"),
        ("build/deep/other", ""),
        ("sub/.gitignore", "secret\n"),
        ("sub/secret", ""),
        ("sub/public", ""),
        ("sub/local", ""),
        ("sub/mine", ""),
        ("deleted", ""),
        ("replaced/file", ""),
        ("line\nfeed", ""),
    ] {
        write(top.join(path), text);
    }
    fs::write(top.join(OsStr::from_bytes(b"b\xff.txt")), "").unwrap();
    write(top.join(".git/info/exclude"), "local\n");
    write(env.home().join(".config/git/ignore"), "mine\n");
    git(
        env,
        &top,
        &["add", "-f", "tracked.o", "target/tracked", "build/deep/tracked", "deleted", "replaced"],
    );
    fs::remove_file(top.join("deleted")).unwrap();
    // git still lists what was in the directory, and the link.
    fs::rename(top.join("replaced"), env.root().join("elsewhere")).unwrap();
    symlink("../elsewhere", top.join("replaced")).unwrap();
    top
}

#[test]
fn in_a_repository_what_git_lists_is_copied() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let work = env.state().join("vms").join(&id).join("work");
    let top = repository(&env);
    git(&env, &top, &["commit", "-qm", "all", "--", "tracked.o"]);
    git(&env, &top, &["worktree", "add", "-q", "../tree"]);
    write(env.root().join("tree/more.o"), "");
    let copied = |from: &str, to: &str| {
        env.run(&["cp", "--exclude-ignored", from, &format!("box:{to}")]).prints("");
        files(&work.join(to))
    };
    let mut expected = listed(&env, &top);
    expected.remove(&b"replaced/file"[..]);
    for name in [
        &b"tracked.o"[..],
        b"target/tracked",
        b"build/deep/tracked",
        b"line\nfeed",
        b"b\xff.txt",
        b"replaced",
    ] {
        assert!(expected.contains(name), "{:?}", OsStr::from_bytes(name));
    }
    assert_eq!(copied("top", "a"), expected);
    // The repository itself comes too, and git finds nothing missing there.
    assert!(work.join("a/.git/HEAD").is_file());
    // Below the top, in an ignored directory, and in another working tree of the repository.
    for from in ["top/sub", "top/build", "top/target", "tree"] {
        assert_eq!(
            copied(from, &from.replace('/', "-")),
            listed(&env, &env.root().join(from)),
            "{from}"
        );
    }
    assert!(work.join("tree/.git").is_file());
    env.run(&["run", "--exclude-ignored", "--copy-in", "top", "--", "cat", "tracked.o"])
        .prints("tracked");
    // Repositories in the repository: one that is not tracked, and a submodule.
    let inner = env.root().join("inner");
    write(inner.join(".gitignore"), "*.log\n");
    for name in ["a", "x.log", "tracked.log"] {
        write(inner.join(name), "");
    }
    git(&env, &inner, &["init", "-q"]);
    git(&env, &inner, &["add", "-f", "tracked.log", "a"]);
    git(&env, &inner, &["commit", "-qm", "all"]);
    git(&env, &top, &["submodule", "add", "-q", "../inner", "module"]);
    write(top.join("module/y.log"), "");
    fs::rename(&inner, top.join("nested")).unwrap();
    let both = copied("top", "both");
    let mut expected = listed(&env, &top);
    expected
        .retain(|name| ![&b"replaced/file"[..], b"module", b"nested/"].contains(&name.as_slice()));
    for (name, place) in [("module", top.join("module")), ("nested", top.join("nested"))] {
        let below = listed(&env, &place);
        expected.extend(below.iter().map(|file| [name.as_bytes(), b"/", file].concat()));
    }
    assert!(
        expected.contains(&b"nested/tracked.log"[..]) && !expected.contains(&b"nested/x.log"[..])
    );
    assert_eq!(both, expected);
    env.rm(&id);
}

#[test]
fn a_hostile_repository_executes_nothing_and_leads_nowhere() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let work = env.state().join("vms").join(&id).join("work");
    let top = repository(&env);
    git(&env, &top, &["commit", "-qm", "all", "--", "tracked.o"]);
    let (trap, sprung) = (env.root().join("trap"), env.root().join("sprung"));
    fs::write(&trap, format!("#!/bin/sh\ntouch {}\n", sprung.display())).unwrap();
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).unwrap();
    let trap = trap.to_str().unwrap();
    for hook in ["post-index-change", "pre-commit", "query-watchman"] {
        symlink(trap, top.join(".git/hooks").join(hook)).unwrap();
    }
    for (key, value) in [
        ("core.fsmonitor", trap),
        ("core.pager", trap),
        ("pager.ls-files", "true"),
        ("alias.ls-files", &format!("!{trap}")),
        ("core.sshCommand", trap),
        ("core.untrackedCache", "true"),
        ("filter.x.clean", trap),
        ("filter.x.process", trap),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", &format!("ext::{trap}")),
    ] {
        git(&env, &top, &["config", key, value]);
    }
    write(top.join(".git/info/attributes"), "* filter=x\n");
    // As root, of another user: git would refuse it.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&top, Some(65_534), None).unwrap();
        std::os::unix::fs::chown(top.join(".git"), Some(65_534), None).unwrap();
    }
    env.run(&["cp", "--exclude-ignored", "top", "box:a"]).prints("");
    assert!(work.join("a/tracked.o").exists() && !work.join("a/main.o").exists());
    assert!(!sprung.exists(), "a program of the repository ran");
    env.rm(&id);
}

#[test]
fn without_git_a_repository_is_refused_and_a_directory_is_not() {
    let mut env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let top = repository(&env);
    let plain = env.root().join("plain");
    write(plain.join(".gitignore"), "*.o\n");
    write(plain.join("x.o"), "");
    fs::create_dir(env.root().join("bin")).unwrap();
    env.set("PATH", env.root().join("bin"));
    if Path::new("/usr/sbin/git").exists() || Path::new("/sbin/git").exists() {
        crate::support::skip::skipped("git is where administrators' programs are");
    } else {
        let said = "mayfly: cannot copy top to box:: 'git' is not installed\nhint: install it: apt install git\n";
        env.run(&["cp", "--exclude-ignored", "top", "box:"]).fails(6, said);
    }
    env.run(&["cp", "--exclude-ignored", "plain", "box:"]).prints("");
    let there = env.state().join("vms").join(&id).join("work/plain");
    assert_eq!(files(&there), BTreeSet::from([b".gitignore".to_vec()]));
    assert!(top.exists());
    env.rm(&id);
}
