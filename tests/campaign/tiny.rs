//! A tiny image to import: one file whose content tells which archive it came from, and half a megabyte of data.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ground::Ground;
use super::support::images;

/// What can be in `/etc/kept`.
pub const CONTENTS: [&str; 2] = ["one", "two"];

/// The image with the kernel of all others, so that they share it.
pub const KERNEL: &str = "kernel";

/// Writes the archives, and makes the image with the kernel.
pub fn prepare(ground: &Ground) {
    CONTENTS.iter().for_each(|content| write_archive(ground, content));
    // Elsewhere, because the image that the kernel is taken from is large.
    let elsewhere = tempfile::Builder::new().prefix("mf").tempdir().unwrap();
    let artifacts = elsewhere.path().join("artifacts");
    images::apart("debian-base", &artifacts);
    fs::set_permissions(&artifacts, fs::Permissions::from_mode(0o700)).unwrap();
    let archive = archive(CONTENTS[0]);
    let args = ["image", "import", "-q", "--disk", "64M", &archive, KERNEL];
    let ended = ground.end(ground.mayfly(&args).env("MAYFLY_ARTIFACTS_DIR", &artifacts));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    fs::create_dir_all(ground.artifacts()).unwrap();
    fs::set_permissions(ground.artifacts(), fs::Permissions::from_mode(0o700)).unwrap();
    let copied = Command::new("cp")
        .args(["--archive", "--sparse=always"])
        .args([artifacts.join(KERNEL), ground.artifacts().join(KERNEL)])
        .status();
    assert!(copied.expect("cp runs").success(), "the image is copied");
}

/// The name of the archive with this content, in the campaign's directory.
pub fn archive(content: &str) -> String {
    format!("{content}.tar")
}

/// The command that imports an archive.
pub fn import<'a>(archive: &'a str, name: &'a str) -> [&'a str; 9] {
    ["image", "import", "-q", "--disk", "64M", "--kernel-of", KERNEL, archive, name]
}

fn write_archive(ground: &Ground, content: &str) {
    let mut tar = tar::Builder::new(File::create(ground.path(&archive(content))).unwrap());
    for (path, bytes) in [("etc/kept", content.as_bytes()), ("data", &data(content))] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    tar.finish().unwrap();
}

fn data(content: &str) -> Vec<u8> {
    content.bytes().cycle().take(1 << 19).collect()
}

/// The content of the image in this directory, which must be whole.
pub fn content(image: &Path) -> String {
    let info: Value = serde_json::from_slice(&fs::read(image.join("image.json")).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", image.display()));
    for (name, file) in info["files"].as_object().unwrap() {
        let path = image.join(name);
        assert_eq!(fs::metadata(&path).unwrap().len(), file["size"].as_u64().unwrap(), "{name}");
        let digest = file["digest"].as_str().unwrap();
        if let Some(expected) = digest.strip_prefix("sha256:") {
            assert_eq!(digest_of(&path), expected, "{}", path.display());
        } else {
            let checked = sbin("e2fsck").args(["-fn"]).arg(&path).output().unwrap();
            assert!(checked.status.success(), "{}: {checked:?}", path.display());
        }
    }
    let cat = |name: &str| {
        let mut debugfs = sbin("debugfs");
        let read = debugfs.args(["-R", &format!("cat {name}")]).arg(image.join("rootfs.ext4"));
        read.output().unwrap().stdout
    };
    let content = String::from_utf8(cat("/etc/kept")).unwrap();
    assert_eq!(cat("/data"), data(&content), "{}", image.display());
    content
}

fn digest_of(path: &Path) -> String {
    let mut hash = Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sbin(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}
