//! Sources and destinations of copies that are not ordinary files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::environment::Environment;
use crate::support::skip::skipped;

#[test]
fn files_whose_size_is_not_known_are_copied_whole() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let root = env.root();
    // stat(2) says 0 of the first, and 4096 of the second.
    for (number, path) in
        ["/proc/version", "/sys/devices/system/cpu/possible"].into_iter().enumerate()
    {
        let Ok(content) = fs::read_to_string(path) else {
            skipped(&format!("there is no {path}"));
            continue;
        };
        let out = format!("out{number}");
        env.run(&["cp", &format!("box:{path}"), &out]).prints("");
        assert_eq!(fs::read_to_string(root.join(&out)).unwrap(), content);
        env.run(&["cp", path, "box:in"]).prints("");
        env.run(&["exec", "box", "--", "cat", "in"]).prints(&content);
        let both = ["--copy-in", path, "--copy-out", &format!("{path}:run{number}")];
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        env.run(&[&["run"], &both[..], &["--", "cat", name]].concat()).prints(&content);
        let copied = root.join(format!("run{number}")).join(name);
        assert_eq!(fs::read_to_string(copied).unwrap(), content);
        let archive = env.run(&["cp", &format!("box:{path}"), "-"]);
        let mut archive = tar::Archive::new(&archive.stdout[..]);
        let entries: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
        assert_eq!((entries.len(), entries[0].size()), (1, content.len() as u64));
    }
    // A directory of such files.
    env.run(&["cp", "box:/proc/sys/kernel/random", "random"]).is(0, "", "[..]");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(fs::read_to_string(root.join("random/boot_id")).unwrap(), boot);
    env.rm(&id);
}

#[test]
fn what_a_link_leads_to_is_not_replaced() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let root = env.root();
    let work = env.state().join("vms").join(&id).join("work");
    let links = [
        ("stdout", "/proc/self/fd/1"),
        ("closed", "/proc/self/fd/99"),
        ("null", "/dev/null"),
        ("to-fifo", "fifo"),
        ("again", "stdout"),
        ("to-dir", "dir"),
    ];
    for place in [root, &work] {
        mkfifo(&place.join("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(place.join("dir")).unwrap();
        fs::create_dir(place.join("tree")).unwrap();
        for (name, target) in links {
            symlink(target, place.join(name)).unwrap();
        }
        fs::write(place.join("f"), "content").unwrap();
    }
    let targets = || {
        let read = |place: &Path| links.map(|(name, _)| fs::read_link(place.join(name)).unwrap());
        (read(root), read(&work))
    };
    let before = targets();
    for (name, _) in links.iter().take(5).chain([&("fifo", "")]) {
        let said = format!("mayfly: [..]\"{name}\" is [..], which a copy does not replace\n");
        env.run(&["cp", "box:f", name]).fails(1, &said);
        env.run(&["cp", "f", &format!("box:{name}")]).fails(1, &said);
    }
    // Standard output is a regular file.
    let mut command = env.command(&["cp", "box:f", "stdout"]);
    let out = File::create(root.join("out")).unwrap();
    let output = command.stdout(out).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    // A copied directory that has a file of such a name.
    for (name, _) in links {
        fs::write(root.join("tree").join(name), "x").unwrap();
        fs::write(work.join("tree").join(name), "x").unwrap();
        let said = format!("mayfly: [..]\"{name}\" is [..]\n");
        env.run(&["cp", "box:tree/.", "."]).fails(1, &said);
        env.run(&["cp", "tree/.", "box:"]).fails(1, &said);
        env.run(&[
            "run",
            "--copy-in",
            "tree/.:t",
            "--copy-out",
            &format!("{name}:."),
            "--",
            "true",
        ])
        .fails(125, &said);
        fs::remove_file(root.join("tree").join(name)).unwrap();
        fs::remove_file(work.join("tree").join(name)).unwrap();
    }
    assert_eq!(targets(), before);
    // Links to files, and to nothing, are replaced as before.
    symlink("f", root.join("to-file")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    for name in ["to-file", "dangling"] {
        env.run(&["cp", "box:f", name]).prints("");
        assert!(root.join(name).symlink_metadata().unwrap().is_file());
    }
    // The same link again is no conflict.
    symlink("/dev/null", root.join("tree/null")).unwrap();
    env.run(&["cp", "tree/.", "box:"]).prints("");
    env.rm(&id);
}

#[test]
fn an_empty_path_is_refused_wherever_it_is() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    env.run(&["exec", "box", "-c", "echo x > f"]).prints("");
    fs::create_dir(env.root().join("dir")).unwrap();
    let before = fs::read_dir(env.root()).unwrap().count();
    let hint = "hint: write '.' for the current directory\n";
    env.run(&["cp", "box:f", ""]).fails(2, &format!("mayfly: DST is empty\n{hint}"));
    env.run(&["cp", "", "box:"]).fails(2, &format!("mayfly: SRC is empty\n{hint}"));
    for (flag, value, what) in [
        ("--copy-in", "", "what --copy-in \"\" copies"),
        ("--copy-in", ":x", "what --copy-in \":x\" copies"),
        ("--copy-in", "dir:", "the destination of --copy-in \"dir:\""),
        ("--copy-out", "", "what --copy-out \"\" copies"),
        ("--copy-out", "f:", "the destination of --copy-out \"f:\""),
    ] {
        env.run(&["run", flag, value, "--", "true"])
            .fails(125, &format!("mayfly: {what} is empty\n{hint}"));
    }
    assert_eq!(fs::read_dir(env.root()).unwrap().count(), before);
    // Without a path, a VM's home directory is meant.
    env.run(&["cp", "box:", "home"]).prints("");
    assert!(env.root().join("home/f").exists());
    env.rm(&id);
}

#[test]
fn file_systems_of_the_kernel_are_left_out_of_a_tree() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let tree = env.root().join("tree");
    for directory in ["proc", "sys", "dev", "disk"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::write(tree.join("file"), "").unwrap();
    // They are mounted in a namespace of the command.
    let script = "cd tree && mount --rbind /proc proc && mount -t tmpfs none disk && mount --rbind /dev dev && \
                  touch disk/file && cd .. && exec \"$0\" \"$@\"";
    let template = env.command(&["cp", "tree", "box:"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]);
    command.arg(template.get_program()).args(template.get_args()).env_clear();
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.current_dir(env.root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare failed") || said.contains("mount: ") {
        skipped(&format!("nothing can be mounted: {said}"));
    } else {
        assert_eq!((output.status.code(), &*said), (Some(0), ""));
        env.run(&["exec", "box", "-c", "find tree | sort"])
            .prints("tree\ntree/dev\ntree/disk\ntree/disk/file\ntree/file\ntree/proc\ntree/sys\n");
    }
    env.rm(&id);
}
