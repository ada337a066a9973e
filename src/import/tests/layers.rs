//! Valid archives.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use tar::EntryType;
use tar::EntryType::{Block, Char, Fifo, Regular};

use super::{Place, Tar};
use crate::import::budget::{UnpackBounds, UnpackBudget};
use crate::import::layer::{WhiteoutNames, apply};
use crate::import::rootfs::RootfsTree;

#[test]
fn an_archive_comes_out_as_it_went_in() {
    let place = Place::new();
    let long = "long/".repeat(40) + "name";
    let tar = Tar::default()
        .dir("./")
        .dir("bin")
        .add(Regular, "bin/su", "", 0o4755, b"\x7fELF")
        .same("bin/other", "bin/su")
        .link("sbin", "bin")
        .file("sbin/through-a-link", "x")
        .add(Fifo, "fifo", "", 0o600, b"")
        .add(Char, "dev/null", "", 0o666, b"")
        .add(Block, "dev/sda", "", 0o666, b"")
        .file("missing/parents/are/made", "y")
        .add(EntryType::GNULongName, "././@LongLink", "", 0, long.as_bytes())
        .file("short", "long")
        .pax(&[("path", "f\u{fc}nf".as_bytes()), ("mtime", b"1600000000.5"), ("size", b"4")])
        .file("five", "five")
        .raw(Regular, b"caf\xe9", b"", b"latin", |_| {});
    let devices = place.put(&[tar]).unwrap();
    assert_eq!(devices, 2);
    let about = |name: &str| place.tree().join(name).symlink_metadata().unwrap();
    assert_eq!(about("bin/su").mode() & 0o7777, 0o4755);
    assert_eq!(about("bin/su").ino(), about("bin/other").ino());
    assert_eq!(place.read("bin/through-a-link"), "x");
    assert!(about("sbin").is_symlink());
    assert_eq!(place.read("missing/parents/are/made"), "y");
    assert_eq!(about("missing/parents").mode() & 0o7777, 0o755);
    assert_eq!(place.read(&long), "long");
    assert_eq!(
        (place.read("f\u{fc}nf").as_str(), about("f\u{fc}nf").mtime()),
        ("five", 1_600_000_000)
    );
    assert!(place.tree().join(std::ffi::OsStr::from_bytes(b"caf\xe9")).exists());
    assert!(!place.has("dev/null") && !place.has("five"));
    // A directory's time is not that of the last file in it.
    assert_eq!(about("bin").mtime(), 1_700_000_000);
}

#[test]
fn a_layer_changes_and_takes_away_what_lies_below_and_only_that() {
    let place = Place::new();
    let base = Tar::default()
        .dir("etc")
        .file("etc/kept", "base")
        .file("etc/changed", "base")
        .file("etc/gone", "base")
        .dir("var/lib/old")
        .file("var/lib/old/deep", "base")
        .file("opt/a", "base")
        .file("opt/b/c", "base")
        .file("file-then-directory", "base")
        .dir("directory-then-file")
        .file("directory-then-file/x", "base")
        .link("link-then-directory", "etc")
        .file("again", "base");
    let top = Tar::default()
        // Wherever the whiteout is, the new file stays and the old one is deleted.
        .file("opt/b/new", "top")
        .file("opt/new", "top")
        .file("opt/.wh..wh..opq", "")
        .file("again", "top")
        .file(".wh.again", "")
        .file("etc/.wh.gone", "")
        .file("etc/changed", "top")
        .file("var/lib/.wh.old", "")
        .file("no/such/directory/.wh.x", "")
        .file(".wh..wh.plnk/1.2", "")
        .dir("file-then-directory")
        .file("file-then-directory/x", "top")
        .file("directory-then-file", "top")
        .dir("link-then-directory")
        .file("link-then-directory/x", "top");
    place.put(&[base, top]).unwrap();
    assert_eq!((place.read("etc/kept"), place.read("etc/changed")), ("base".into(), "top".into()));
    for gone in ["etc/gone", "var/lib/old", "opt/a", "opt/b/c", "etc/x", "no", "etc/.wh.gone"] {
        assert!(!place.has(gone), "{gone}");
    }
    for new in ["opt/b/new", "opt/new", "again", "directory-then-file", "file-then-directory/x"] {
        assert_eq!(place.read(new), "top", "{new}");
    }
    assert!(place.tree().join("link-then-directory").symlink_metadata().unwrap().is_dir());
    assert!(!place.has(".wh.again") && !place.has("opt/.wh..wh..opq"));
}

/// `umoci insert` writes such layers.
#[test]
fn an_archive_may_end_with_its_last_file() {
    let place = Place::new();
    let mut tar = Tar::default().file("x", "1").file("y", "whole");
    tar.0.truncate(3 * 512 + "whole".len());
    place.put(&[tar]).unwrap();
    assert_eq!(place.read("y"), "whole");
}

#[test]
fn a_plain_archive_has_no_whiteouts() {
    let place = Place::new();
    let mut tree =
        RootfsTree::open(&place.tree(), UnpackBudget::new(UnpackBounds::default())).unwrap();
    let mut tar = Tar::default().file("x", "1").file(".wh.x", "2");
    let mut apply = |tar: &Tar| apply(&mut &tar.0[..], WhiteoutNames::Plain, &mut tree);
    // Without a digest, only the end tells that an archive is complete.
    let error = apply(&tar).unwrap_err();
    assert_eq!(error.to_string(), "the archive is cut short");
    tar.0.extend([0; 1024]);
    apply(&tar).unwrap();
    assert_eq!((place.read("x"), place.read(".wh.x")), ("1".into(), "2".into()));
}

#[test]
fn sparse_files_keep_their_holes() {
    let place = Place::new();
    let mut stored = vec![b'a'; 512];
    stored.extend(vec![b'z'; 512]);
    let tar = Tar::default().raw(EntryType::GNUSparse, b"sparse", b"", &stored, |header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(4 << 20);
        gnu.sparse[0].set_offset(65536);
        gnu.sparse[0].set_length(512);
        gnu.sparse[1].set_offset((4 << 20) - 512);
        gnu.sparse[1].set_length(512);
    });
    place.put(&[tar.file("next", "n")]).unwrap();
    let mut content = Vec::new();
    fs::File::open(place.tree().join("sparse")).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), 4 << 20);
    assert_eq!((content[65535], content[65536], content[66048]), (0, b'a', 0));
    assert_eq!(content[(4 << 20) - 1], b'z');
    assert!(place.tree().join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(place.read("next"), "n");
}
