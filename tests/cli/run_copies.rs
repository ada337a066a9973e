//! `mayfly run --copy-in … --copy-out …`.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::environment::Environment;
use crate::support::skip::skipped;

/// An environment with a directory `project` in it.
fn with_project() -> Environment {
    let env = Environment::mock();
    let project = env.root().join("project");
    fs::create_dir_all(project.join("src")).unwrap();
    fs::write(project.join("src/word"), "hello\n").unwrap();
    fs::write(project.join("Makefile"), "all:\n\t@tr a-z A-Z < src/word > loud\n").unwrap();
    env
}

fn read(env: &Environment, path: &str) -> String {
    fs::read_to_string(env.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_directory_is_copied_in_and_the_command_runs_in_it() {
    let env = with_project();
    let run = |flags: &[&str], command: &str| {
        env.run(&[&["run"], flags, &["--", "sh", "-c", command]].concat())
    };
    run(&["--copy-in", "project"], "pwd | grep -o 'work/.*'; ls")
        .prints("work/project\nMakefile\nsrc\n");
    run(&["--copy-in", "project/"], "pwd | grep -o 'work/.*'").prints("work/project\n");
    run(&["--copy-in", "project:a/b"], "pwd | grep -o 'work/.*'; ls")
        .prints("work/a/b\nMakefile\nsrc\n");
    // A directory can have any name, or be the current one.
    let mut command = env.command(&["run", "--copy-in", ".", "--", "ls"]);
    let output = command.current_dir(env.root().join("project/src")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "word\n");
    // -w overrides where the command runs.
    run(&["--copy-in", "project", "-w", "/"], "pwd").prints("/\n");
    run(&["--copy-in", "project", "-w", "project/src"], "ls").prints("word\n");
    // Several files.
    run(
        &[
            "--copy-in",
            "project/Makefile",
            "--copy-in",
            "project/src:s",
            "--copy-in",
            "project/src/word:s/more",
        ],
        "ls; ls ..",
    )
    .prints("more\nword\nMakefile\ns\n");
    // A second copy to the same directory adds files.
    run(&["--copy-in", "project:p", "--copy-in", "project/src:p"], "ls")
        .prints("Makefile\nsrc\nword\n");
    assert!(env.ids().is_empty());
}

#[test]
fn results_are_copied_out() {
    let env = with_project();
    env.run(&[
        "run",
        "--copy-in",
        "project",
        "--copy-out",
        "loud",
        "--copy-out",
        "src:out/of/it",
        "--",
        "make",
    ])
    .prints("");
    assert_eq!(read(&env, "loud"), "HELLO\n");
    assert_eq!(read(&env, "out/of/it/src/word"), "hello\n");
    // Onto existing files; and only the contents of a directory.
    env.run(&[
        "run",
        "--copy-in",
        "project",
        "--copy-out",
        "src/.:out",
        "--",
        "sh",
        "-c",
        "echo 2 > src/word",
    ])
    .prints("");
    assert_eq!(read(&env, "out/word"), "2\n");
    assert_eq!(read(&env, "out/of/it/src/word"), "hello\n");
    // With --json and --keep.
    let json = env
        .run(&[
            "run",
            "--json",
            "--keep",
            "--copy-in",
            "project",
            "--copy-out",
            "loud:j",
            "--",
            "make",
        ])
        .json();
    assert!(
        json["timings_ms"]["copy_in"].is_number() && json["timings_ms"]["copy_out"].is_number()
    );
    assert_eq!(read(&env, "j/loud"), "HELLO\n");
    env.clear();
}

#[test]
fn the_exit_code_is_the_commands_if_a_copy_fails_too() {
    let env = with_project();
    let run = |script: &str, out: &[&str]| {
        env.run(&[&["run", "--copy-in", "project"], out, &["-c", script]].concat())
    };
    run("echo x > made; exit 3", &["--copy-out", "made:3"]).is(3, "", "");
    assert_eq!(read(&env, "3/made"), "x\n");
    let nope = "mayfly: cannot copy nope out of the VM to n/m: in the VM: cannot copy \"nope\": No such file[..]\n";
    // A failed copy does not prevent the others.
    let out = ["--copy-out", "nope:n/m", "--copy-out", "Makefile:n2"];
    run("exit 3", &out).is(3, "", nope);
    run("true", &out).is(125, "", nope);
    assert!(env.root().join("n2/Makefile").exists());
    assert!(!env.root().join("n").exists(), "a directory was made for nothing");
    run("kill -9 $$", &["--copy-out", "Makefile:9"]).is(137, "", "");
    assert!(env.root().join("9/Makefile").exists());
    // A command that was not found has no results.
    env.run(&[
        "run",
        "--copy-in",
        "project",
        "--copy-out",
        "Makefile:none",
        "--",
        "no-such-program",
    ])
    .fails(127, "mayfly: no-such-program: not found\n");
    assert!(!env.root().join("none").exists());
    // A command that timed out may have results.
    env.run(&[
        "run",
        "--copy-in",
        "project",
        "--timeout",
        "1s",
        "--copy-out",
        "made:t",
        "-c",
        "echo x > made; sleep 99",
    ])
    .is(124, "", "mayfly: command timed out after 1s\n");
    assert_eq!(read(&env, "t/made"), "x\n");
    assert!(env.ids().is_empty());
}

#[test]
fn results_of_an_interrupted_command_are_copied_out() {
    let env = with_project();
    let script = "echo x > made; echo ready; exec sleep 1019";
    let mut live = env.live(&[
        "run",
        "--copy-in",
        "project",
        "--copy-out",
        "made:i",
        "--",
        "sh",
        "-c",
        script,
    ]);
    live.says("ready");
    crate::support::processes::eventually("exec of sleep", || {
        crate::support::processes::of_state(&env.state())
            .iter()
            .any(|(_, line)| line == "sleep 1019")
    });
    live.signal(Signal::SIGINT);
    live.end().is(130, "ready\n", "");
    assert_eq!(read(&env, "i/made"), "x\n");
    assert!(env.ids().is_empty());
}

#[test]
fn mistakes_are_found_before_a_vm_is_created() {
    let env = with_project();
    fs::write(env.root().join("file"), "").unwrap();
    for (flags, said) in [
        (&["--copy-in", "nope"][..], "cannot copy \"nope\" into a VM: No such file[..]"),
        (
            &["--copy-in", "/"],
            "\"/\" has no name\nhint: name a destination, as in '--copy-in DIR:PATH'",
        ),
        (&["--copy-out", "x:file"], "\"file\" is not a directory"),
        (&["--copy-out", "x:file/deeper"], "\"file\" is not a directory"),
        (&["--exclude-ignored"], "the following required arguments [..]\nhint: [..]"),
    ] {
        let words = [&["run"], flags, &["--", "touch", "/proc/self/nothing"]].concat();
        env.run(&words).fails(125, &format!("mayfly: {said}\n"));
    }
    assert!(!env.registry().exists(), "a VM was created for nothing");
    // Mistakes that only the guest can detect.
    env.run(&["run", "--copy-in", "project:/proc/x", "--", "true"])
        .fails(125, "mayfly: cannot copy project into the VM: in the VM: [..]\n");
    assert!(env.ids().is_empty());
    assert!(Path::new(&env.root().join("project/src/word")).exists());
}

#[test]
fn a_profile_says_where_copies_go_from_unless_one_goes_in() {
    let mut env = with_project();
    let project = env.root().join("project");
    let profile = format!(
        "[profiles.maker]\nextends = \"debian-base\"\nentrypoint = [\"make\", \"-s\"]\nworkdir = {project:?}\n"
    );
    env.profiles(&profile);
    env.run(&["run", "-p", "maker", "--copy-out", "loud:out"]).prints("");
    assert_eq!(read(&env, "out/loud"), "HELLO\n");
    fs::write(project.join("Makefile"), "all:\n\t@pwd | grep -o 'work/.*'\n").unwrap();
    env.run(&["run", "-p", "maker", "--copy-in", "project"]).prints("work/project\n");
}

#[test]
fn what_cannot_fit_is_refused_before_a_vm_is_created() {
    let mut env = with_project();
    let holes = fs::File::create(env.root().join("project/holes")).unwrap();
    holes.set_len(85 << 30).unwrap();
    for name in ["project/large", "more"] {
        fs::write(env.root().join(name), vec![7; 40 << 20]).unwrap();
    }
    // There is no image, and none is built.
    env.set("MAYFLY_BACKEND", "qemu");
    env.set("MAYFLY_ACCEL", "tcg");
    let run = |disk: &str, flags: &[&str]| {
        let words = ["run", "--disk", disk, "--copy-in", "project", "--copy-in"];
        env.run(&[&words, flags, &["--", "true"]].concat())
    };
    let refused = "mayfly: the files to copy take 81 MiB, and the VM's disk has 64 MiB\n\
         hint: 'mayfly run --disk 1G' gives a VM a disk that is large enough\n";
    run("64M", &["more"]).fails(125, refused);
    run("64M", &["more:/srv/more", "--exclude-ignored"]).fails(125, refused);
    let error =
        env.run(&["run", "--json", "--disk", "64M", "--copy-in", ".:x", "true"]).json_error(125);
    assert_eq!(error["kind"], "limit_reached");
    assert!(!env.registry().exists(), "a VM was created for nothing");

    // The free space is that of a small file system in a mount namespace of the command.
    env.set("MAYFLY_BACKEND", "mock");
    env.set("MAYFLY_ACCEL", "none");
    let small = env.root().join("small");
    fs::create_dir(&small).unwrap();
    env.set("MAYFLY_STATE_DIR", &small);
    let template = env.command(&["run", "--copy-in", "more", "--", "true"]);
    let mut command = std::process::Command::new("unshare");
    let script = "mount -t tmpfs -o size=20m,mode=700 none \"$0\" && exec \"$@\"";
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(&small);
    command.arg(template.get_program()).args(template.get_args()).env_clear();
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.current_dir(env.root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("unshare failed") || said.contains("mount: ") {
        skipped(&format!("nothing can be mounted: {said}"));
        return;
    }
    assert!(said.contains("the files to copy take 40 MiB, and 1"), "{said}");
    assert!(said.contains("KiB are free in ") || said.contains("MiB are free in "), "{said}");
    assert_eq!(output.status.code(), Some(125), "{said}");
}

#[test]
fn holes_are_not_filled_by_a_copy() {
    let env = with_project();
    let holes = fs::File::create(env.root().join("project/holes")).unwrap();
    holes.write_all_at(b"middle", 5 << 20).unwrap();
    holes.write_all_at(&[1; 5000], 9 << 20).unwrap();
    holes.set_len((20 << 20) + 1).unwrap();
    let project = env.root().join("project");
    let script = "cmp holes \"$0\"/holes && test $(du -k holes | cut -f1) -lt 1000 && cat src/word";
    let project = project.to_str().unwrap();
    env.run(&["run", "--copy-in", "project", "--", "sh", "-c", script, project]).prints("hello\n");
}
