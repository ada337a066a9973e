//! Copies into a VM and out of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::streams::noise;
use crate::support::processes::eventually;

/// Makes this many files of this size in directories of fifty, with all kinds of modes and times.
fn make_tree(root: &Path, files: usize, bytes: usize) {
    let noise = noise(bytes + files);
    for number in 0..files {
        let directory = root.join(format!("d{}/deeper/s{}", number / 500, number / 50));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("{number}"));
        fs::write(&file, &noise[number..number + bytes]).unwrap();
        let mode = [0o644, 0o600, 0o755, 0o400][number % 4];
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let empty = root.join("d0/empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(empty, fs::Permissions::from_mode(0o500)).unwrap();
    fs::write(root.join("d0/\u{fc}n\nusual"), "").unwrap();
    fs::write(root.join("x".repeat(255)), "a long name").unwrap();
}

/// The attributes of a tree that are copied.
fn look(root: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| {
            let path = entry.unwrap().into_path();
            let meta = path.symlink_metadata().unwrap();
            let digest = if meta.is_file() {
                Sha256::digest(fs::read(&path).unwrap()).to_vec()
            } else {
                Vec::new()
            };
            let inside = path.strip_prefix(root).unwrap().to_owned();
            (inside, (meta.mode(), meta.mtime(), meta.mtime_nsec(), digest))
        })
        .collect()
}

pub fn trees_go_in_and_come_out_as_they_were(bench: &Bench) {
    let vm = bench.vm();
    let root = vm.env.root();
    let cp = |from: &str, to: &str| vm.env.run(&["cp", from, to]);
    let (inside, tree) = (format!("{}:tree", vm.id), root.join("tree"));
    let (files, bytes) = bench.copied;
    make_tree(&tree, files, bytes);
    if bench.is_machine {
        // The image needs no rsync, tar or the like.
        vm.sh("rm $(command -v tar)").prints("");
    }
    cp("tree", &inside).prints("");
    vm.sh("find tree -type f -printf x | wc -c").prints(&format!("{}\n", files + 2));
    vm.sh("cd tree/d0/deeper/s0 && stat -c %a 0 1 2 3").prints("644\n600\n755\n400\n");
    cp(&inside, "back").prints("");
    assert!(look(&root.join("back")) == look(&tree), "what came back is something else");

    // Links are copied in, but not out.
    fs::create_dir(root.join("links")).unwrap();
    symlink("../tree/d0", root.join("links/l")).unwrap();
    cp("links", &format!("{}:", vm.id)).prints("");
    vm.sh("readlink links/l").prints("../tree/d0\n");
    cp(&format!("{}:links", vm.id), "links-back").is(
        0,
        "",
        "mayfly: left out \"l\": a symbolic link\n",
    );
    assert_eq!(fs::read_dir(root.join("links-back")).unwrap().count(), 0);

    // An interrupted copy leaves nothing in the VM.
    let mut live = vm.env.live(&["cp", "-", &format!("{}:tree", vm.id)]);
    let mut header = tar::Header::new_gnu();
    header.set_path("endless").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_cksum();
    live.write(header.as_bytes());
    live.write(&[0; 100_000]);
    eventually("the copy's beginning", || vm.sh("ls -A tree").stdout().contains(".mayfly-cp-"));
    live.signal(Signal::SIGINT);
    live.end().fails(130, "mayfly: [..]interrupted by SIGINT\n");
    vm.sh("ls -A tree | grep -c -e endless -e mayfly").is(1, "0\n", "");
    if bench.skips("a VM of its own has users and file systems") {
        return;
    }
    // Copies belong to the user who copies, who needs permission.
    let nobody = ["cp", "-u", "nobody", "tree/d0", &format!("{}:/tmp/theirs", vm.id)];
    vm.env.run(&nobody).prints("");
    vm.sh("stat -c '%U %a' /tmp/theirs/deeper/s0/1").prints("nobody 600\n");
    vm.env
        .run(&["cp", "-u", "nobody", "tree/d0", &format!("{}:/root/theirs", vm.id)])
        .fails(1, "mayfly: [..]in the VM: [..]Permission denied[..]\n");
    // The VM's disk is full. Zeros would become holes.
    fs::write(root.join("large"), vec![1; 6 << 20]).unwrap();
    cp("large", &format!("{}:/run/lock", vm.id))
        .fails(1, "mayfly: [..]in the VM: [..]No space left on device[..]\n");
    vm.sh("ls -A /run/lock").prints("");
}

pub fn a_directory_is_copied_in_and_results_are_copied_out(bench: &Bench) {
    let root = bench.env.root();
    fs::create_dir_all(root.join("project/target")).unwrap();
    fs::write(root.join("project/.gitignore"), "target\n").unwrap();
    fs::write(root.join("project/word"), "hello\n").unwrap();
    let script = "test ! -e target && mkdir made && tr a-z A-Z < word > made/loud && exit 3";
    let words = [
        "run",
        "--mem",
        "256M",
        "--copy-in",
        "project",
        "--exclude-ignored",
        "--copy-out",
        "made",
        "--copy-out",
        "word:more/words",
        "--",
        "sh",
        "-c",
        script,
    ];
    bench.env.run(&words).is(3, "", "");
    assert_eq!(fs::read_to_string(root.join("made/loud")).unwrap(), "HELLO\n");
    assert_eq!(fs::read_to_string(root.join("more/words/word")).unwrap(), "hello\n");
}
