//! Trees deeper than most programs expect, with few file descriptors.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::support::answer::Answer;
use crate::support::environment::Environment;

/// Creates directories in directories, deeper than a path can be long, with a file in the innermost one.
fn make_deep(top: &Path, depth: usize) {
    fs::create_dir(top).unwrap();
    let mut here = OwnedFd::from(File::open(top).unwrap());
    for _ in 0..depth {
        mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = openat(&here, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(openat(&here, "end", OFlags::CREATE, Mode::RUSR | Mode::WUSR).unwrap());
}

/// Runs mayfly with at most 64 open files.
fn run_with_few_descriptors(env: &Environment, args: &[&str]) -> Answer {
    let template = env.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    command.arg(template.get_program()).args(template.get_args()).env_clear();
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(env.root());
    crate::support::environment::finish(command, b"")
}

#[test]
fn vms_with_deep_trees_are_deleted() {
    let env = Environment::mock();
    let works = ["rm", "reap"].map(|verb| {
        let id = env.start(&["--keep"]);
        make_deep(&env.state().join("vms").join(&id).join("work/deep"), 3_000);
        (verb, id)
    });
    for (verb, id) in works {
        if verb == "rm" {
            run_with_few_descriptors(&env, &["rm", &id]).prints(&format!("{id}\n"));
        } else {
            // A directory without a record.
            env.run(&["stop", &id]).prints(&format!("{id}\n"));
            let (place, kept) = (env.state().join("vms").join(&id), env.root().join("kept"));
            fs::rename(&place, &kept).unwrap();
            env.run(&["rm", &id]).prints(&format!("{id}\n"));
            fs::rename(&kept, &place).unwrap();
            let answer = run_with_few_descriptors(&env, &["reap"]);
            assert_eq!(answer.code(), 0, "{}", answer.stderr());
            assert!(!place.exists());
        }
    }
    assert!(env.ids().is_empty());
}

#[test]
fn deep_trees_are_copied_both_ways_or_refused() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    make_deep(&env.root().join("deep"), 600);
    let end = format!("{}end", "d/".repeat(600));
    let work = env.state().join("vms").join(&id).join("work");
    // The second time, all directories are merged with those that are there.
    for _ in 0..2 {
        run_with_few_descriptors(&env, &["cp", "deep", "box:"]).prints("");
        assert!(work.join("deep").join(&end).is_file());
        run_with_few_descriptors(&env, &["cp", "box:deep/.", "back"]).prints("");
        assert!(env.root().join("back").join(&end).is_file());
    }
    let archive = run_with_few_descriptors(&env, &["cp", "box:deep", "-"]).stdout;
    env.run(&["exec", "box", "--", "mkdir", "unpacked"]).prints("");
    env.feed(&["cp", "-", "box:unpacked"], &archive).prints("");
    assert!(work.join("unpacked/deep").join(&end).is_file());
    // No program can open a file by a longer path.
    make_deep(&env.root().join("deeper"), 3_000);
    let before = fs::read_dir(&work).unwrap().count();
    run_with_few_descriptors(&env, &["cp", "deeper", "box:"]).fails(
        1,
        "mayfly: cannot copy deeper to box:: [..]a path in it is longer than 4096 bytes\n",
    );
    assert_eq!(fs::read_dir(&work).unwrap().count(), before);
    fs::rename(env.root().join("deeper"), work.join("deeper")).unwrap();
    run_with_few_descriptors(&env, &["cp", "box:deeper", "out"])
        .fails(1, "mayfly: cannot copy box:deeper to out: in the VM: [..]a path in it is longer than 4096 bytes\n");
    assert!(!env.root().join("out").exists());
    env.rm(&id);
}

#[test]
fn deep_trees_are_imported_and_deleted() {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    // As deep as may be.
    make_deep(&env.root().join("deep"), 199);
    let end = format!("/{}end", "d/".repeat(199));
    let mut tar = Command::new("tar");
    tar.args(["-C", "deep", "-cf", "deep.tar", "."]).current_dir(env.root());
    assert!(tar.status().unwrap().success());
    for source in ["deep", "deep.tar"] {
        run_with_few_descriptors(&env, &["image", "import", "-q", source, "x"]).prints("x\n");
        let about = Command::new("debugfs")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["-R", &format!("stat {end}")])
            .arg(env.artifacts().join("x/rootfs.ext4"))
            .output()
            .unwrap();
        assert!(String::from_utf8(about.stdout).unwrap().contains("Type: regular"), "{source}");
    }
    make_deep(&env.root().join("deeper"), 201);
    run_with_few_descriptors(&env, &["image", "import", "-q", "deeper", "y"])
        .fails(2, "mayfly: [..] is too deep\n[..]");
    // In an image, and in what a killed import left.
    make_deep(&env.artifacts().join("x/deep"), 3_000);
    run_with_few_descriptors(&env, &["image", "rm", "x"]).prints("x\n");
    assert!(!env.artifacts().join("x").exists());
    let left = env.artifacts().join(".build-y-999999-0123abcd");
    make_deep(&left, 3_000);
    let pruned = run_with_few_descriptors(&env, &["image", "prune", "--dry-run", "--json"]);
    assert!(pruned.code() == 0 && left.exists(), "{pruned}");
    let reaped = run_with_few_descriptors(&env, &["reap"]);
    assert!(reaped.code() == 0 && !left.exists(), "{reaped}");
}
