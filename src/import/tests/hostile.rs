//! Hostile archives.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tar::EntryType;
use tar::EntryType::{Block, Char, Directory, Fifo, Regular};

use super::{Place, Tar, snapshot};
use crate::import::budget::{UnpackBounds, UnpackBudget};
use crate::import::rootfs::RootfsTree;

/// What must happen to a hostile archive.
enum Comes {
    /// It is refused, with these words.
    Refused(&'static str),
    /// It does no harm.
    Harmless,
}

use Comes::{Harmless, Refused};

#[test]
fn no_archive_reaches_what_is_beside_the_tree() {
    type Case = (&'static str, fn(&Place) -> Tar, Comes);
    let cases: Vec<Case> = vec![
        ("up", |_| Tar::default().file("../outside/canary", "dead"), Refused("leads out")),
        (
            "up from below",
            |_| Tar::default().file("a/../../outside/canary", ""),
            Refused("leads out"),
        ),
        (
            "up from the root",
            |_| Tar::default().file("/../outside/canary", ""),
            Refused("leads out"),
        ),
        ("only up", |_| Tar::default().dir(".."), Refused("leads out")),
        ("absolute", |p| Tar::default().file(&p.out("canary"), "dead"), Harmless),
        (
            "link out",
            |p| Tar::default().link("l", &p.out("")).file("l/canary", "dead"),
            Refused("cannot be reached"),
        ),
        (
            "link up",
            |_| Tar::default().link("l", "../outside").file("l/canary", "dead"),
            Refused("cannot be reached"),
        ),
        (
            "link far up",
            |p| {
                Tar::default()
                    .link("l", &format!("{}{}", "../".repeat(20), p.out("")))
                    .file("l/canary", "dead")
            },
            Refused("cannot be reached"),
        ),
        (
            "links in a row",
            |p| {
                Tar::default()
                    .link("a", "b")
                    .link("b", "c")
                    .link("c", &p.out(""))
                    .file("a/inner/x", "dead")
            },
            Refused("cannot be reached"),
        ),
        (
            "link below a directory",
            |_| Tar::default().dir("d").link("d/l", "../../outside").file("d/l/canary", "dead"),
            Refused("cannot be reached"),
        ),
        ("link to the root", |_| Tar::default().link("l", "/").file("l/l/l/x", "inside"), Harmless),
        (
            "link, then a file of that name",
            |p| Tar::default().link("l", &p.out("canary")).file("l", "dead"),
            Harmless,
        ),
        (
            "link, then a directory of that name",
            |p| Tar::default().link("l", &p.out("")).add(Directory, "l", "", 0o777, b""),
            Harmless,
        ),
        (
            "link, then a fifo of that name",
            |p| Tar::default().link("l", &p.out("canary")).add(Fifo, "l", "", 0o777, b""),
            Harmless,
        ),
        (
            "links in a circle",
            |_| Tar::default().link("a", "b").link("b", "a").file("a/x", ""),
            Refused("cannot be reached"),
        ),
        (
            "a link to itself",
            |_| Tar::default().link("a", "a").file("a/x", ""),
            Refused("cannot be reached"),
        ),
        (
            "a link to the kernel's",
            |_| Tar::default().link("l", "/proc/self/cwd").file("l/x", "dead"),
            Refused("cannot be reached"),
        ),
        (
            "another name of a file above",
            |_| Tar::default().same("x", "../outside/canary").file("x", "dead"),
            Refused("leads out"),
        ),
        (
            "another name of a file outside",
            |p| Tar::default().same("x", &p.out("canary")).file("x", "dead"),
            Refused("cannot unpack"),
        ),
        (
            "another name through a link",
            |p| Tar::default().link("l", &p.out("")).same("x", "l/canary"),
            Refused("cannot unpack"),
        ),
        (
            "another name of a link, then written to",
            |p| Tar::default().link("l", &p.out("canary")).same("x", "l").file("x", "dead"),
            Harmless,
        ),
        ("another name of the root", |_| Tar::default().same("x", "/"), Refused("cannot unpack")),
        ("another name of itself", |_| Tar::default().file("x", "1").same("x", "x"), Harmless),
        (
            "another name of nothing, in place of a file",
            |_| Tar::default().file("x", "1").same("x", "nothing"),
            Refused("cannot unpack"),
        ),
        ("a whiteout of up", |_| Tar::default().file("a/.wh...", "").file(".wh...", ""), Harmless),
        ("a whiteout of here", |_| Tar::default().file("a/.wh..", "").file(".wh.", ""), Harmless),
        (
            "a whiteout through a link",
            |p| Tar::default().link("l", &p.out("")).file("l/.wh.canary", ""),
            Harmless,
        ),
        (
            "a whiteout through a link up",
            |_| Tar::default().link("l", "../outside").file("l/.wh.inner", ""),
            Harmless,
        ),
        (
            "an opaque link",
            |p| Tar::default().link("l", &p.out("")).file("l/.wh..wh..opq", ""),
            Harmless,
        ),
        (
            "a root that is a link",
            |p| Tar::default().link(".", &p.out("")).file("canary", "dead"),
            Refused("root"),
        ),
        ("a root that is a file", |_| Tar::default().file("/", "dead"), Refused("root")),
        (
            "a file that is a directory",
            |_| Tar::default().file("x", "").file("x/y", ""),
            Refused("cannot be reached"),
        ),
        (
            "disks",
            |_| Tar::default().add(Block, "sda", "", 0o666, b"").add(Char, "mem", "", 0o666, b""),
            Harmless,
        ),
        (
            "a volume label",
            |_| Tar::default().add(EntryType::new(b'V'), "../x", "", 0, b""),
            Harmless,
        ),
        (
            "an unknown kind",
            |_| Tar::default().add(EntryType::new(b'Z'), "x", "", 0, b""),
            Refused("unknown type"),
        ),
        (
            "nobody's",
            |_| Tar::default().raw(Regular, b"x", b"", b"", |h| h.set_uid(1 << 32)),
            Refused("not a valid user"),
        ),
        (
            "up, in an extended header",
            |_| Tar::default().pax(&[("path", b"../outside/canary")]).file("x", "dead"),
            Refused("leads out"),
        ),
        (
            "out, in an extended header",
            |p| {
                Tar::default()
                    .pax(&[("linkpath", p.out("").as_bytes())])
                    .link("l", "x")
                    .file("l/canary", "dead")
            },
            Refused("cannot be reached"),
        ),
        (
            "up, in a long name",
            |_| {
                Tar::default()
                    .add(EntryType::GNULongName, "l", "", 0, b"../outside/canary\0")
                    .file("x", "dead")
            },
            Refused("leads out"),
        ),
        (
            "out, in a long link",
            |p| {
                Tar::default()
                    .add(EntryType::GNULongLink, "l", "", 0, p.out("").as_bytes())
                    .link("l", "x")
                    .file("l/canary", "")
            },
            Refused("cannot be reached"),
        ),
        (
            "two long names",
            |_| {
                Tar::default()
                    .add(EntryType::GNULongName, "l", "", 0, b"a")
                    .add(EntryType::GNULongName, "l", "", 0, b"b")
                    .file("x", "")
            },
            Refused("two extended headers"),
        ),
        (
            "a long name of nothing",
            |_| Tar::default().add(EntryType::GNULongName, "l", "", 0, b"a"),
            Refused("ends after"),
        ),
        (
            "a header as long as a file",
            |_| Tar::default().raw(EntryType::XHeader, b"x", b"", b"", |h| h.set_size(1 << 40)),
            Refused("extended header of"),
        ),
        (
            "a damaged header",
            |_| Tar::default().add(EntryType::XHeader, "x", "", 0, b"99 a=b\n").file("x", ""),
            Refused("malformed"),
        ),
        (
            "sparse files in another form",
            |_| Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("x", ""),
            Refused("sparse"),
        ),
        (
            "a file without end",
            |_| Tar::default().raw(Regular, b"x", b"", b"", |h| h.set_size(8 << 60)),
            Refused("unpacks to more"),
        ),
        (
            "a file longer than there can be",
            |_| Tar::default().pax(&[("size", b"18446744073709551615")]).file("x", ""),
            Refused("without end"),
        ),
        (
            "a sparse file without end",
            |_| {
                Tar::default().raw(EntryType::GNUSparse, b"x", b"", b"", |h| {
                    h.as_gnu_mut().unwrap().set_real_size(8 << 60);
                })
            },
            Refused("unpacks to more"),
        ),
        (
            "a sparse file whose pieces overlap",
            |_| {
                Tar::default().raw(EntryType::GNUSparse, b"x", b"", &[1; 1024], |h| {
                    let gnu = h.as_gnu_mut().unwrap();
                    gnu.set_real_size(1024);
                    for piece in 0..2 {
                        gnu.sparse[piece].set_offset(100);
                        gnu.sparse[piece].set_length(512);
                    }
                })
            },
            Refused("map"),
        ),
        (
            "a sparse file that is shorter than its map",
            |_| {
                Tar::default().raw(EntryType::GNUSparse, b"x", b"", b"", |h| {
                    let gnu = h.as_gnu_mut().unwrap();
                    gnu.set_real_size(1024);
                    gnu.sparse[0].set_offset(0);
                    gnu.sparse[0].set_length(512);
                })
            },
            Refused("map"),
        ),
        (
            "an end in a file",
            |_| {
                let mut tar = Tar::default().file("x", &"y".repeat(5000));
                tar.0.truncate(2000);
                tar
            },
            Refused("cannot be read"),
        ),
        (
            "an end between files",
            |_| {
                let mut tar = Tar::default().file("x", "y");
                tar.0.truncate(700);
                tar
            },
            Refused("middle of a block"),
        ),
        (
            "an end in a header",
            |_| {
                let mut tar = Tar::default().file("x", "");
                tar.0.truncate(300);
                tar
            },
            Refused("middle of a header"),
        ),
        ("no archive", |_| Tar(vec![b'x'; 4096]), Refused("no tar header")),
        (
            "deep",
            |_| Tar::default().pax(&[("path", "d/".repeat(1000).as_bytes())]).dir("x"),
            Refused("too deep"),
        ),
        (
            "deep through links",
            |_| {
                let mut tar = Tar::default();
                for step in 0..5 {
                    let deep = "d/".repeat(100) + &format!("l{step}");
                    let before = if step == 0 { String::new() } else { format!("l{}/", step - 1) };
                    tar = tar
                        .pax(&[("path", format!("{before}{}x", "d/".repeat(100)).as_bytes())])
                        .file("x", "");
                    let target = format!("{before}{}", deep.trim_end_matches(&format!("l{step}")));
                    tar =
                        tar.pax(&[("linkpath", target.as_bytes())]).link(&format!("l{step}"), "x");
                }
                tar
            },
            Refused("too deep"),
        ),
        (
            "a long name",
            |_| Tar::default().pax(&[("path", "n".repeat(300).as_bytes())]).file("x", ""),
            Refused("name of a file"),
        ),
        (
            "many files",
            |_| (0..2000).fold(Tar::default(), |tar, n| tar.file(&n.to_string(), "")),
            Refused("unpacks to more"),
        ),
    ];
    assert!(cases.len() >= 50, "{} cases", cases.len());
    for (what, archive, comes) in cases {
        let place = Place::new();
        let before = snapshot(&place.outside());
        // As a second layer, so that its whiteouts have something to delete.
        let base = Tar::default().file("etc/below", "below");
        let result = place.put(&[base, archive(&place)]);
        let mut names: Vec<_> =
            fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "tree"], "{what}");
        assert_eq!(snapshot(&place.outside()), before, "{what}");
        assert_eq!(place.read("etc/below"), "below", "{what}");
        match (comes, result) {
            (Harmless, Ok(_)) => {}
            (Refused(why), Err(error)) if format!("{error:#}").contains(why) => {}
            (Harmless, Err(error)) => panic!("{what}: {error:#}"),
            (Refused(why), result) => panic!("{what}: {result:?} instead of {why:?}"),
        }
    }
}

/// A link that does not come from an archive.
#[test]
fn a_link_that_was_in_the_tree_does_not_lead_out() {
    let place = Place::new();
    symlink(place.outside(), place.tree().join("l")).unwrap();
    let before = snapshot(&place.outside());
    place.put(&[Tar::default().file("l/canary", "dead")]).unwrap_err();
    let mut tree =
        RootfsTree::open(&place.tree(), UnpackBudget::new(UnpackBounds::default())).unwrap();
    tree.remove(Path::new("l/canary")).unwrap();
    assert_eq!(tree.names(Path::new("l")).unwrap(), [""; 0]);
    tree.remove(Path::new("l")).unwrap();
    assert_eq!(snapshot(&place.outside()), before);
    assert!(!place.has("l"));
}
