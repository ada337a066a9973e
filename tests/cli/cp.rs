//! `mayfly cp`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::eventually;
use crate::support::skip::skipped;

/// A tree with all kinds of files.
fn sample(at: &Path) {
    fs::create_dir_all(at.join("sub/empty")).unwrap();
    fs::write(at.join("file"), "content\n").unwrap();
    fs::write(at.join("sub/large"), vec![b'x'; 300_000]).unwrap();
    fs::write(at.join("sub/shut"), "secret").unwrap();
    fs::set_permissions(at.join("sub/shut"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(at.join("sub/empty"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::write(at.join("sub/a name\nof \u{fc}nusual kind"), "").unwrap();
    fs::write(at.join(format!("sub/{}", "long".repeat(60))), "long").unwrap();
}

/// The paths below, with contents, modes and times.
fn listed(root: &Path) -> Vec<(PathBuf, String)> {
    let mut all: Vec<_> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            let facts =
                format!("{:o} {}.{} {content:?}", meta.mode(), meta.mtime(), meta.mtime_nsec());
            (entry.path().strip_prefix(root).unwrap().to_owned(), facts)
        })
        .collect();
    all.sort();
    all
}

/// The sorted names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_goes_in_and_comes_out_as_it_was() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box"]);
    let here = env.root().join("tree");
    sample(&here);
    env.run(&["cp", "tree", "box:"]).prints("");
    env.run(&["cp", "box:tree", "back"]).prints("");
    assert_eq!(listed(&env.root().join("back")), listed(&here));
    // Copying it again changes nothing.
    env.run(&["cp", "tree/.", "box:tree"]).prints("");
    env.run(&["cp", "box:tree/.", "back"]).prints("");
    assert_eq!(listed(&env.root().join("back")).len(), listed(&here).len());
    // cp keeps the VM, unlike exec.
    assert_eq!(env.ids(), std::slice::from_ref(&id));
    env.rm(&id);
}

#[test]
fn destinations_work_as_in_docker_cp() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let root = env.root();
    fs::create_dir_all(root.join("src/d")).unwrap();
    fs::write(root.join("src/f"), "f").unwrap();
    fs::write(root.join("file"), "old").unwrap();
    env.run(&["exec", "box", "-c", "mkdir there; echo old > file"]).prints("");
    for (from, to) in [
        ("src", "box:new"),
        ("src", "box:there"),
        ("src/.", "box:there"),
        ("src/f", "box:file"),
        ("src/f", "box:renamed"),
        ("src/f", "box:there/"),
    ] {
        env.run(&["cp", from, to]).prints("");
    }
    env.run(&["exec", "box", "-c", "find . -type f | sort; cat file"])
        .prints("./file\n./new/f\n./renamed\n./there/f\n./there/src/f\nf");
    fs::create_dir(root.join("there")).unwrap();
    for (from, to) in [
        ("box:new", "new"),
        ("box:new", "there"),
        ("box:new/.", "there"),
        ("box:new/f", "file"),
        ("box:new/f", "there/"),
    ] {
        env.run(&["cp", from, to]).prints("");
    }
    assert_eq!(names(&root.join("new")), ["d", "f"]);
    assert_eq!(names(&root.join("there")), ["d", "f", "new"]);
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "f");
    env.rm(&id);
}

#[test]
fn impossible_copies_are_refused_before_anything_is_copied() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let root = env.root();
    fs::create_dir(root.join("tree")).unwrap();
    fs::create_dir_all(root.join("taken/tree")).unwrap();
    fs::write(root.join("file"), "precious").unwrap();
    fs::write(root.join("taken/tree/sub"), "precious").unwrap();
    env.run(&[
        "exec",
        "box",
        "-c",
        "mkdir -p tree/sub; echo x > tree/x; ln -s x link; mkfifo fifo",
    ])
    .prints("");
    let before = names(root);
    for (from, to, code, said) in [
        ("a", "b", 2, "neither \"a\" nor \"b\" is in a VM\nhint: write a path in a VM as VM:PATH"),
        ("-", "-", 2, "neither \"-\" nor \"-\" is in a VM\nhint: [..]"),
        ("box:a", "box:b", 2, "both SRC and DST are in a VM\nhint: copy through this host: [..]"),
        ("nope", "box:", 3, "cannot copy \"nope\": No such file or directory[..]"),
        ("box:x", "no/where", 3, "there is no directory \"no\""),
        ("nobody:x", ".", 3, "no VM \"nobody\"\nhint: [..]"),
        (
            "box:nope",
            ".",
            3,
            "cannot copy box:nope to .: in the VM: cannot copy \"nope\": No such file[..]",
        ),
        (
            "box:tree",
            "file",
            1,
            "cannot copy box:tree to file: \"file\" is a file, but a directory is copied",
        ),
        ("box:tree/x", "no/", 3, "cannot copy box:tree/x to no/: there is no directory \"no/\""),
        (
            "box:tree",
            "taken",
            1,
            "cannot copy box:tree to taken: \"tree/sub\" is a file there, but a directory in the copy",
        ),
        (
            "box:link",
            ".",
            1,
            "cannot copy box:link to .: it is a symbolic link[..]\nhint: '-L' copies its target",
        ),
        ("box:fifo", ".", 1, "cannot copy box:fifo to .: it is a FIFO[..]"),
        (
            "tree",
            "box:no/where",
            3,
            "cannot copy tree to box:no/where: in the VM: there is no directory \"no\"",
        ),
        (
            "tree",
            "box:tree/x",
            1,
            "cannot copy tree to box:tree/x: in the VM: \"tree/x\" is a file, but a directory is copied",
        ),
    ] {
        env.run(&["cp", from, to]).fails(code, &format!("mayfly: {said}\n"));
    }
    env.run(&["cp", "--exclude-ignored", "box:tree", "."])
        .fails(2, "mayfly: --exclude-ignored[..]\n");
    env.run(&["cp", "-L", "-", "box:"])
        .fails(2, "mayfly: an archive is copied as it is\nhint: [..]\n");
    assert_eq!(names(root), before);
    assert_eq!(fs::read_to_string(root.join("taken/tree/sub")).unwrap(), "precious");
    env.run(&["exec", "box", "-c", "find . | sort"])
        .prints(".\n./fifo\n./link\n./tree\n./tree/sub\n./tree/x\n");
    env.run(&["stop", "box"]).prints("box\n");
    env.run(&["cp", "box:tree", "."])
        .fails(4, "mayfly: cannot copy box:tree to .: VM [..]\nhint: [..]\n");
    env.rm(&id);
}

#[test]
fn links_are_copied_in_but_not_out() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let tree = env.root().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "x").unwrap();
    symlink("file", tree.join("link")).unwrap();
    symlink("/nowhere/at all", tree.join("dangling")).unwrap();
    symlink("tree", env.root().join("to-tree")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    env.run(&["cp", "tree", "box:"]).is(
        0,
        "",
        "mayfly: left out \"socket\": a FIFO, socket or device\n",
    );
    drop(socket);
    fs::remove_file(tree.join("socket")).unwrap();
    env.run(&["cp", "to-tree", "box:"]).prints("");
    env.run(&["cp", "-L", "to-tree", "box:real"]).prints("");
    env.run(&["exec", "box", "-c", "readlink tree/link tree/dangling to-tree; ls real"])
        .prints("file\n/nowhere/at all\ntree\ndangling\nfile\nlink\n");
    env.run(&["cp", "box:tree", "out"]).is(
        0,
        "",
        "mayfly: left out \"[..]\": a symbolic link\nmayfly: left out \"[..]\": a symbolic link\n",
    );
    assert_eq!(names(&env.root().join("out")), ["file"]);
    env.run(&["cp", "-L", "box:to-tree/link", "followed"]).prints("");
    assert!(env.root().join("followed").symlink_metadata().unwrap().is_file());
    let json = env.run(&["cp", "--json", "-q", "box:tree", "again"]).json();
    assert_eq!((&json["files"], &json["bytes"]), (&1.into(), &1.into()));
    assert_eq!(json["skipped"].as_array().unwrap().len(), 2);
    env.rm(&id);
}

#[test]
fn archives_go_through_standard_streams() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let root = env.root();
    sample(&root.join("tree"));
    symlink("file", root.join("tree/link")).unwrap();
    fs::hard_link(root.join("tree/file"), root.join("tree/same")).unwrap();
    let tar = |args: &[&str]| {
        let output = std::process::Command::new("tar").args(args).current_dir(root).output();
        let output = output.expect("there is a tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    // GNU tar's own format and that of POSIX.
    for format in ["gnu", "posix", "oldgnu"] {
        let archive = tar(&["c", &format!("--format={format}"), "-C", "tree", "."]);
        env.run(&["exec", "box", "--", "mkdir", format]).prints("");
        env.feed(&["cp", "-", &format!("box:{format}")], &archive).prints("");
        let same = format!("cd {format} && cmp file same && readlink link && stat -c %a sub/shut");
        env.run(&["exec", "box", "-c", &same]).prints("file\n400\n");
        let out = env.run(&["cp", "-q", &format!("box:{format}"), "-"]);
        assert_eq!((out.code(), out.stderr()), (0, ""));
        fs::write(root.join("out.tar"), &out.stdout).unwrap();
        tar(&["x", "-f", "out.tar"]);
        fs::remove_file(root.join("out.tar")).unwrap();
        let mut expected = listed(&root.join("tree"));
        expected.retain(|(path, _)| path != Path::new("link"));
        let came: Vec<_> = listed(&root.join(format)).into_iter().map(|(path, _)| path).collect();
        assert_eq!(came, expected.into_iter().map(|(path, _)| path).collect::<Vec<_>>());
    }
    env.feed(&["cp", "-", "box:"], &[b'x'; 600])
        .fails(1, "mayfly: cannot copy - to box:: in the VM: there is no tar header at byte 0\n");
    let whole = tar(&["c", "tree"]);
    let cut = &whole[..whole.len() / 2];
    env.feed(&["cp", "-", "box:"], cut)
        .fails(1, "mayfly: cannot copy - to box:: in the VM: [..]\n");
    // Only its end shows that an archive is complete.
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(512);
    for missing in [0, 512, end] {
        env.feed(&["cp", "-", "box:"], &whole[..missing]).fails(
            1,
            "mayfly: cannot copy - to box:: in the VM: the archive ends without a block of zeros, so something is missing\n",
        );
    }
    env.run(&["exec", "box", "-c", "ls -A"]).prints("gnu\noldgnu\nposix\n");
    // As for GNU tar, one block of zeros ends an archive, and what follows is ignored.
    let more = [&whole[..end + 512], &whole].concat();
    for (kind, archive) in [("lone", &whole[..end + 512]), ("more", &more)] {
        env.run(&["exec", "box", "--", "mkdir", kind]).prints("");
        env.feed(&["cp", "-", &format!("box:{kind}")], archive).prints("");
        env.run(&["exec", "box", "-c", &format!("ls -A {kind}; rm -r {kind}")]).prints("tree\n");
    }
    env.feed(&["cp", "-", "box:nope"], &whole)
        .fails(3, "mayfly: [..]there is no directory \"nope\"\n");
    env.feed(&["cp", "-", "box:gnu/file"], &whole).fails(1, "mayfly: [..]\n");
    env.run(&["exec", "box", "-c", "ls -A"]).prints("gnu\noldgnu\nposix\n");
    env.rm(&id);
}

/// GNU tar writes such names to pax records, and sparse files in four formats.
#[test]
fn archives_keep_names_with_line_ends_and_files_with_holes() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let (tree, work) = (env.root().join("tree"), env.state().join("vms").join(&id).join("work"));
    fs::create_dir(&tree).unwrap();
    // Longer than the name field of a header.
    let odd = format!("f\u{fc}nf\n30 path=evil\n={}", "long".repeat(30));
    let target = format!("t\u{fc}r\n{}", "long/".repeat(30));
    fs::write(tree.join(&odd), "odd").unwrap();
    symlink(&target, tree.join("link")).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    let tar = |args: &[&str]| {
        let output = std::process::Command::new("tar")
            .args(["c", "-C"])
            .arg(&tree)
            .args(args)
            .output()
            .expect("there is a tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    for format in ["gnu", "posix"] {
        let archive = tar(&["--format", format, "--exclude=sparse", "."]);
        env.run(&["exec", "box", "--", "mkdir", format]).prints("");
        env.feed(&["cp", "-", &format!("box:{format}")], &archive).prints("");
        let there = work.join(format);
        assert_eq!(names(&there), [&*odd, "link"]);
        assert_eq!(fs::read(there.join(&odd)).unwrap(), b"odd");
        assert_eq!(fs::read_link(there.join("link")).unwrap(), Path::new(&target));
    }
    env.feed(&["cp", "-", "box:gnu"], &tar(&["--format=gnu", "-S", "sparse"])).prints("");
    let there = work.join("gnu/sparse");
    assert!(fs::read(&there).unwrap() == fs::read(tree.join("sparse")).unwrap());
    assert!(there.metadata().unwrap().blocks() * 512 < 1 << 20);
    let label = ["--label", "a volume"];
    for version in ["0.0", "0.1", "1.0"] {
        let flags = ["--format=posix", "-S", "--sparse-version", version, "sparse"];
        env.feed(&["cp", "-", "box:posix"], &tar(&[&label[..], &flags].concat())).prints("");
        let there = work.join("posix/sparse");
        assert!(fs::read(&there).unwrap() == fs::read(tree.join("sparse")).unwrap(), "{version}");
        assert!(there.metadata().unwrap().blocks() * 512 < 1 << 20, "{version}");
        fs::remove_file(there).unwrap();
    }
    for compress in ["--gzip", "--xz", "--zstd"] {
        let archive = tar(&[&label[..], &[compress, "sparse"]].concat());
        env.feed(&["cp", "-", "box:posix"], &archive).prints("");
        fs::remove_file(work.join("posix/sparse")).unwrap();
    }
    env.feed(&["cp", "-", "box:posix"], &tar(&["--bzip2", "sparse"])).fails(
        1,
        "mayfly: [..]in the VM: it is compressed with bzip2, not with gzip, xz or zstd: unpack it first, with 'bzip2 -dc'\n",
    );
    assert_eq!(names(&work.join("posix")), [&*odd, "link"]);
    env.rm(&id);
}

#[test]
fn an_archive_that_cannot_be_read_is_an_error_and_costs_nothing() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let mut command = env.command(&["cp", "-", "box:"]);
    command.stdin(fs::File::open(env.root()).unwrap());
    let output = command.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "mayfly: cannot copy - to box:: cannot read standard input: Is a directory\n"
    );
    assert_eq!(output.status.code(), Some(2));
    env.run(&["exec", "box", "-c", "ls -A"]).prints("");
    env.rm(&id);
}

#[test]
fn files_that_git_ignores_can_be_left_out() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let project = env.root().join("repository/project");
    for (path, text) in [
        ("repository/.git/config", ""),
        ("repository/.gitignore", "*.o\n"),
        ("repository/project/.gitignore", "/target\n!keep.o\n"),
        ("repository/project/main.c", ""),
        ("repository/project/main.o", ""),
        ("repository/project/keep.o", ""),
        ("repository/project/.hidden", ""),
        ("repository/project/target/x", ""),
        ("repository/project/src/target/x", ""),
    ] {
        let path = env.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    env.run(&["cp", "--exclude-ignored", project.to_str().unwrap(), "box:"]).prints("");
    env.run(&["exec", "box", "-c", "cd project; find . -type f | sort"])
        .prints("./.gitignore\n./.hidden\n./keep.o\n./main.c\n./src/target/x\n");
    env.run(&["cp", project.to_str().unwrap(), "box:all"]).prints("");
    env.run(&["exec", "box", "-c", "cd all; find . -type f | wc -l"]).prints("7\n");
    std::os::unix::fs::symlink("project", env.root().join("repository/link")).unwrap();
    let link = env.root().join("repository/link");
    for (flags, target) in [(&[][..], "project\n"), (&["-L"], "")] {
        let copy = ["cp", "--exclude-ignored", link.to_str().unwrap(), "box:"];
        env.run(&[&copy[..], flags].concat()).prints("");
        env.run(&["exec", "box", "-c", "readlink link; rm -r link"]).prints(target);
    }
    // Without a repository, the ignore files above the directory have no effect.
    fs::remove_dir_all(env.root().join("repository/.git")).unwrap();
    env.run(&["cp", "--exclude-ignored", project.to_str().unwrap(), "box:apart"]).prints("");
    env.run(&["exec", "box", "-c", "cd apart; ls -A"])
        .prints(".gitignore\n.hidden\nkeep.o\nmain.c\nmain.o\nsrc\n");
    env.rm(&id);
}

#[test]
fn an_interrupted_copy_leaves_nothing_here_or_there() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    let root = env.root();
    let work = env.state().join("vms").join(&id).join("work");
    // Into the VM, an archive that does not end.
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut header = tar::Header::new_gnu();
        header.set_path("endless").unwrap();
        header.set_size(1 << 40);
        header.set_mode(0o644);
        header.set_cksum();
        let mut live = env.live(&["cp", "-", "box:"]);
        live.write(header.as_bytes());
        live.write(&[7; 1 << 20]);
        eventually("the beginning of the copy", || {
            names(&work).iter().any(|name| name.starts_with(".mayfly-cp-"))
        });
        live.signal(signal);
        live.end().fails(code, "mayfly: [..]interrupted by SIG[..]\n");
        assert!(names(&work).is_empty(), "{:?}", names(&work));
    }
    // Out of the VM, a huge sparse file, which takes long to read.
    env.run(&["exec", "box", "--", "truncate", "-s", "4G", "huge"]).prints("");
    let before = names(root);
    let live = env.live(&["cp", "box:huge", "huge"]);
    eventually("the beginning of the copy", || {
        names(root).iter().any(|name| name.starts_with(".mayfly-cp-"))
    });
    live.signal(Signal::SIGINT);
    live.end().fails(130, "mayfly: [..]interrupted by SIGINT\n");
    assert_eq!(names(root), before);
    assert_eq!(names(&work), ["huge"]);
    env.rm(&id);
}

/// Starts a command that writes to a full pipe, and returns both.
fn unread(env: &Environment, args: &[&str], flags: OFlag) -> (Live, std::fs::File) {
    let (reading, writing) = nix::unistd::pipe2(flags).unwrap();
    let mut command = env.command(args);
    command.stdin(Stdio::null()).stdout(writing).stderr(Stdio::piped());
    (Live::start_as_set_up(command), fs::File::from(reading))
}

#[test]
fn a_copy_to_a_full_pipe_can_be_interrupted() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    // The guest still sends one archive; the other has been received, but the pipe is full.
    let files = "truncate -s 4G endless; head -c 200000 /dev/zero > all";
    env.run(&["exec", "box", "-c", files]).prints("");
    for file in ["endless", "all"] {
        let (live, reading) = unread(&env, &["cp", &format!("box:{file}"), "-"], OFlag::O_CLOEXEC);
        eventually("a full pipe", || waiting(&reading) == 65_536);
        live.signal(Signal::SIGINT);
        live.end().fails(130, "mayfly: [..]interrupted by SIGINT\n");
    }
    // A nonblocking descriptor works too.
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (live, mut reading) = unread(&env, &["cp", "box:all", "-"], flags);
    eventually("a full pipe", || waiting(&reading) == 65_536);
    nix::fcntl::fcntl(&reading, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let read = std::io::copy(&mut reading, &mut std::io::sink()).unwrap();
    live.end().prints("");
    assert!(read > 200_000, "{read}");
    env.rm(&id);
}

/// The number of bytes in a pipe.
fn waiting(pipe: &std::fs::File) -> u64 {
    rustix::io::ioctl_fionread(pipe).unwrap()
}

#[test]
fn an_archive_on_a_full_disk_is_an_error_and_leaves_room() {
    let mut env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    env.run(&[
        "exec",
        "box",
        "-c",
        "head -c 300000 /dev/zero > file; mkdir d; cd d; touch $(seq 90)",
    ])
    .prints("");
    let archive = |env: &Environment, what: &str, to: &str| {
        let mut command = env.command(&["cp", what, "-"]);
        command
            .stdout(fs::File::options().write(true).create(true).truncate(true).open(to).unwrap());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let said =
        "mayfly: cannot copy box:file to -: cannot write the archive: No space left on device\n";
    assert_eq!(archive(&env, "box:file", "/dev/full"), (Some(1), said.into()));
    let tar = env.root().join("out.tar");
    let tar = tar.to_str().unwrap();
    env.profiles("[limits]\ncopy_out_free_mib = 1000000000\n");
    let (code, said) = archive(&env, "box:file", tar);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("there is no room for a file of"), "{said}");
    assert_eq!(fs::metadata(tar).unwrap().len(), 0);
    // A pipe needs no room on a disk.
    assert_eq!(env.run(&["cp", "box:file", "-"]).code(), 0);
    // Even empty files take room in an archive.
    env.profiles("[limits]\ncopy_out_mib = 0\ncopy_out_free_mib = 0\n");
    assert_eq!(archive(&env, "box:d", tar).0, Some(5));
    env.run(&["cp", "box:d", "d"]).prints("");
    env.rm(&id);
}

#[test]
fn a_full_disk_is_an_error_and_the_copy_is_undone() {
    let mut env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    env.run(&[
        "exec",
        "box",
        "-c",
        "head -c 3000000 /dev/urandom > large; mkdir d; cd d; touch $(seq 30)",
    ])
    .prints("");
    let small = env.root().join("small");
    fs::create_dir(&small).unwrap();
    env.profiles("[limits]\ncopy_out_free_mib = 0\n");
    // The small file system is in a mount namespace of the command.
    let script = format!(
        "mount -t tmpfs -o size=2m,nr_inodes=20 none {small} && cp /etc/hostname {small}/before && \
         {{ \"$0\" \"$@\"; code=$?; ls -A {small}; exit $code; }}",
        small = small.display()
    );
    for (path, code, why) in
        [("large", 5, "there is no room for a file"), ("d", 1, "No space left on device")]
    {
        let template = env.command(&["cp", &format!("box:{path}"), small.to_str().unwrap()]);
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", &script]);
        command.arg(template.get_program()).args(template.get_args()).env_clear();
        command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.current_dir(env.root()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unshare failed") || said.contains("mount: ") {
            skipped(&format!("nothing can be mounted: {said}"));
            break;
        }
        assert!(said.contains(why), "{said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "before\n");
    }
    // There is room, but less would be left than the limit says.
    env.profiles("[limits]\ncopy_out_free_mib = 1000000000\n");
    env.run(&["cp", "box:large", "."]).fails(5, "mayfly: cannot copy box:large to .: the VM sends too much: there is no room for a file of 2929 KiB: [..]\nhint: limits.copy_out_free_mib[..]\n");
    env.profiles("[limits]\ncopy_out_mib = 2\n");
    env.run(&["cp", "box:.", "all"])
        .fails(5, "mayfly: [..]it is larger than 2048 KiB\nhint: limits.copy_out_mib[..]\n");
    env.profiles("[limits]\ncopy_out_files = 30\n");
    env.run(&["cp", "box:.", "all"])
        .fails(5, "mayfly: [..]it has more than 30 files\nhint: limits.copy_out_files[..]\n");
    env.rm(&id);
}

#[test]
fn progress_is_shown_on_a_terminal() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box", "--keep"]);
    fs::write(env.root().join("large"), vec![7; 8 << 20]).unwrap();
    let (mut master, slave) = crate::support::terminal::open();
    let mut command = env.command(&["cp", "large", "box:"]);
    command.stderr(Stdio::from(slave)).env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = Vec::new();
    // Reading from a closed terminal is an error.
    let _ = std::io::copy(&mut master, &mut said);
    assert!(child.wait().unwrap().success());
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("8.00 MiB") && said.contains("/s"), "{said:?}");
    assert!(said.contains("mayfly: copied large to box:"), "{said:?}");
    // An archive is not written to a terminal.
    let (_master, slave) = crate::support::terminal::open();
    let mut command = env.command(&["cp", "box:large", "-"]);
    let output = command.stdout(slave).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("mayfly: will not write an archive to a terminal\n"), "{said}");
    assert_eq!(output.status.code(), Some(2));
    env.rm(&id);
}
