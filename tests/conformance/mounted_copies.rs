//! Copies of large trees into a new VM, which are mounted instead of being sent.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::bench::Bench;
use crate::support::processes::eventually;

/// Prints all attributes that are copied of all files below the current directory.
const LIST: &str = "find . -printf '%P %y %m %T@ %l\\n' | LC_ALL=C sort | md5sum; \
                    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum | md5sum";

/// Prints 1 if the current directory is mounted.
const MOUNTED: &str = "grep -c \"^overlay $PWD overlay\" /proc/mounts || true";

/// A tree that is large enough to be mounted, with everything that can be in one.
fn make_tree(root: &Path) {
    let directory = root.join("many");
    fs::create_dir_all(&directory).unwrap();
    // Their names take more than one block.
    for number in 0..100 {
        let file = directory.join(format!("{number}-{}", "n".repeat(100)));
        fs::write(&file, vec![number; 700 * usize::from(number)]).unwrap();
        let mode = [0o644, 0o600, 0o755, 0o400][usize::from(number % 4)];
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir_all(root.join("a/b/c/d")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o500)).unwrap();
    fs::write(root.join("none"), "").unwrap();
    fs::write(root.join("x".repeat(255)), "a long name").unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff\n odd")), "an odd name").unwrap();
    fs::hard_link(root.join("none"), root.join("a/none")).unwrap();
    symlink("many", root.join("link")).unwrap();
    symlink("y".repeat(4000), root.join("a/nowhere")).unwrap();
    let holes = File::create(root.join("holes")).unwrap();
    holes.set_len(3 << 20).unwrap();
    let long_ago = UNIX_EPOCH - Duration::new(86_400, 250_000_000);
    for (path, time) in [("a/none", UNIX_EPOCH + Duration::from_nanos(1)), ("holes", long_ago)] {
        let file = File::options().write(true).open(root.join(path)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }
}

/// What [`LIST`] prints for a directory of the host.
#[expect(clippy::disallowed_methods, reason = "the host's own tools are compared with")]
fn listed(root: &Path) -> String {
    let out = Command::new("sh").args(["-c", LIST]).current_dir(root).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn run(copy: &str, script: &str) -> [String; 7] {
    ["run", "--mem", "256M", "--copy-in", copy, "-c", script].map(str::to_owned)
}

pub fn a_large_tree_is_mounted_as_it_was(bench: &Bench) {
    if bench.skips("nothing is mounted on the host") {
        return;
    }
    let tree = bench.env.root().join("tree");
    make_tree(&tree);
    let script =
        format!("{LIST}; {MOUNTED}; find . ! -user root -o ! -group root; ls -A /run/mayfly");
    let expected = listed(&tree);
    bench
        .env
        .run(&run("tree", &script))
        .prints(&format!("{expected}1\nhostname\nhosts\nmachine-id\n"));
    // One that lives on is sent, with the same result.
    let script = format!("{LIST}; {MOUNTED}");
    let mut kept = run("tree", &script).to_vec();
    kept.splice(1..1, ["--keep".into(), "--name".into(), "kept".into()]);
    let answer = bench.env.run(&kept);
    assert_eq!(
        (answer.code(), answer.stdout()),
        (0, &*format!("{expected}0\n")),
        "{}",
        answer.stderr()
    );
    bench.env.rm("kept");
    // What is not copied.
    fs::set_permissions(tree.join("none"), Permissions::from_mode(0o6755)).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bench.env.run(&run("tree", &format!("stat -c %a none; ls fifo 2> /dev/null; {MOUNTED}"))).is(
        0,
        "755\n1\n",
        "mayfly: left out \"fifo\": a FIFO, socket or device\n",
    );
}

pub fn a_mounted_tree_can_be_changed(bench: &Bench) {
    if bench.skips("nothing is mounted on the host") {
        return;
    }
    make_tree(&bench.env.root().join("tree"));
    let script = "set -e
        echo more >> many/7-*; tail -c 5 many/7-*
        mv many renamed; mv renamed/8-* a/eight; mv a/b /tmp/b; mv /tmp/b back; ls -d back/c/d
        mkdir many; ls -A many; ls renamed | wc -l
        rm -r a; mkdir a; ls -A a
        chmod 700 none; chown nobody none; stat -c '%a %U' none
        ln none again; echo x > again; cat none
        rm link; ln -s none link; cat link
        mv -T many empty; ls -A empty
        sync; cp -a . /tmp/all; diff -r . /tmp/all && echo same";
    bench.env.run(&run("tree", script)).prints("more\nback/c/d\n99\n700 nobody\nx\nx\nsame\n");
}

pub fn what_is_there_stays_and_is_merged_with(bench: &Bench) {
    if bench.skips("nothing is mounted on the host") {
        return;
    }
    let root = bench.env.root();
    make_tree(&root.join("tree"));
    let look = "ls passwd none; stat -c %a .; ";
    bench.env.run(&run("tree:/etc", &format!("{look}{MOUNTED}"))).prints("none\npasswd\n755\n0\n");
    // An empty directory keeps its mode, and missing parents are created.
    fs::set_permissions(root.join("tree"), Permissions::from_mode(0o700)).unwrap();
    bench
        .env
        .run(&run("tree:/mnt", &format!("stat -c %a .; ls none; {MOUNTED}")))
        .prints("755\nnone\n1\n");
    bench
        .env
        .run(&run("tree:new/place/", &format!("pwd; stat -c %a .; {MOUNTED}")))
        .prints("/root/new/place\n700\n1\n");
    bench.env.run(&run("tree:/etc/passwd", "true")).fails(
        125,
        "mayfly: [..]in the VM: \"/etc/passwd\" is a file, but a directory is copied\n",
    );
    // Others own what they copy.
    let theirs = ["run", "--mem", "256M", "-u", "nobody", "--copy-in", "tree:/tmp/t/t", "stat"];
    bench
        .env
        .run(&[&theirs[..], &["-c", "%U", "..", ".", "none"]].concat())
        .prints("nobody\nnobody\nnobody\n");
}

pub fn a_vm_of_the_pool_mounts_what_was_written_after_its_start(bench: &Bench) {
    if bench.skips("nothing is mounted on the host") || bench.lacks_templates() {
        return;
    }
    let tree = bench.env.root().join("tree");
    make_tree(&tree);
    bench.env.run(&["pool", "fill", "-q", "--mem", "256M", "-n", "1"]).is(0, "[..]", "");
    let id = bench.env.run(&["pool", "ls", "-q"]).line();
    let mut words = run("tree", &format!("{LIST}; {MOUNTED}")).to_vec();
    words.insert(1, "--json".into());
    let answer = bench.env.run(&words).json();
    assert_eq!(answer["vm_id"], *id, "{answer}");
    assert_eq!(answer["stdout"], format!("{}1\n", listed(&tree)), "{answer}");
}

pub fn an_interrupted_copy_leaves_no_vm(bench: &Bench) {
    if bench.skips("nothing is mounted on the host") {
        return;
    }
    let tree = bench.env.root().join("tree");
    make_tree(&tree);
    // Reading it takes longer than a VM needs to start.
    File::create(tree.join("endless")).unwrap().set_len(60 << 30).unwrap();
    let live = bench.env.live(&["run", "--mem", "256M", "--copy-in", "tree", "true"]);
    eventually("a VM", || bench.env.run(&["status"]).stdout().contains("started"));
    live.signal(Signal::SIGINT);
    live.end().fails(130, "mayfly: [..]interrupted by SIGINT\n");
    bench.env.run(&["status", "--json"]).prints("[]\n");
}
