//! Hostile archives, of whatever kind, against what unpacks them in a guest for `cp -`: whatever becomes
//! of them, nothing is changed outside of the directory that they are unpacked in.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use mayfly::archive::{
    CopyDestination, CopyTarget, StagingDirectory, UnpackRules, receive_foreign,
};
use tempfile::TempDir;

use super::tars::{END, changed, directory, entry, everything, file, head, link, pax};

/// A GNU header for a long name or target, and the name.
fn long(kind: u8, name: &[u8]) -> Vec<u8> {
    entry(kind, b"././@LongLink", &[name, b"\0"].concat())
}

/// What the archives are, with parts that follow each other; `out` is where the canaries are.
fn hostile(out: &[u8]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    // From where an archive is unpacked until it is put in place.
    let up = b"../../../canaries/x";
    let at = |tail: &[u8]| [out, tail].concat();
    let (sym, hard) = (b'2', b'1');
    let sparse = changed(head(b'S', b"s", 512), |bytes| {
        bytes[257..265].copy_from_slice(b"ustar  \0");
        bytes[386..398].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 0, 0]);
        bytes[398..410].copy_from_slice(b"00000001000\0");
        bytes[483..495].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
    });
    vec![
        ("up", vec![file(up)]),
        ("further up", vec![file(b"../../../../../../canaries/x")]),
        ("up from within", vec![directory(b"d"), file(b"d/../../../../canaries/x")]),
        ("up as a directory", vec![directory(b"../../../canaries/deep/"), file(b"x")]),
        (
            "up as a directory of mode 0",
            vec![changed(head(b'5', b"../../../canaries/", 0), |bytes| bytes[100..107].fill(b'0'))],
        ),
        ("nothing but up", vec![directory(b".."), file(b"x")]),
        ("absolute", vec![pax(b'x', &[("path", &at(b"/x"))]), file(b"x")]),
        ("absolute directory", vec![pax(b'x', &[("path", &at(b"/deep"))]), directory(b"x")]),
        ("up behind slashes", vec![file(b"///../../../canaries/x")]),
        (
            "up in a prefix",
            vec![changed(head(b'0', b"x", 0), |bytes| {
                bytes[345..363].copy_from_slice(b"../../../canaries/")
            })],
        ),
        ("up in a record", vec![pax(b'x', &[("path", up)]), file(b"x")]),
        ("up in records for all", vec![pax(b'g', &[("path", up)]), file(b"x")]),
        ("long up", vec![long(b'L', up), file(b"x")]),
        ("long absolute", vec![long(b'L', &at(b"/x")), file(b"x")]),
        ("null", vec![pax(b'x', &[("path", b"a\0/../../../../canaries/x")]), file(b"x")]),
        ("through a link", vec![link(sym, b"l", b"../../../canaries"), file(b"l/x")]),
        (
            "through a link again",
            vec![link(sym, b"l", b"../../../canaries"), directory(b"l"), file(b"l/x")],
        ),
        (
            "through a link deep down",
            vec![
                directory(b"a"),
                directory(b"a/b"),
                link(sym, b"a/b/l", b"../../../../../canaries"),
                file(b"a/b/l/x"),
            ],
        ),
        (
            "through two links",
            vec![
                link(sym, b"one", b".."),
                link(sym, b"two", b"one/../../canaries"),
                file(b"two/x"),
            ],
        ),
        ("onto a link", vec![link(sym, b"l", b"../../../canaries/x"), file(b"l")]),
        (
            "a link for a directory",
            vec![
                directory(b"d"),
                file(b"d/a"),
                link(sym, b"d", b"../../../canaries"),
                file(b"d/x"),
            ],
        ),
        (
            "a directory for a link",
            vec![link(sym, b"d", b"../../../canaries"), directory(b"d/deep")],
        ),
        (
            "a mode through a link",
            vec![
                link(sym, b"d", b"../../../canaries"),
                changed(head(b'5', b"d/", 0), |bytes| bytes[100..107].fill(b'0')),
            ],
        ),
        (
            "a long link",
            vec![long(b'K', b"../../../canaries"), link(sym, b"l", b"x"), file(b"l/x")],
        ),
        (
            "a link in a record",
            vec![
                pax(b'x', &[("linkpath", b"../../../canaries")]),
                link(sym, b"l", b"x"),
                file(b"l/x"),
            ],
        ),
        ("a hard link up", vec![link(hard, b"h", up), file(b"h")]),
        (
            "a hard link, then a longer file",
            vec![link(hard, b"h", up), entry(b'0', b"h", &[1; 3000])],
        ),
        (
            "an absolute hard link",
            vec![pax(b'x', &[("linkpath", &at(b"/x"))]), link(hard, b"h", b"x"), file(b"h")],
        ),
        (
            "a hard link through a link",
            vec![link(sym, b"l", b"../../../canaries"), link(hard, b"h", b"l/x"), file(b"h")],
        ),
        (
            "a hard link to a link",
            vec![link(sym, b"l", b"../../../canaries/x"), link(hard, b"h", b"l"), file(b"h")],
        ),
        ("a hard link to the root", vec![link(hard, b"h", b"."), file(b"h/x")]),
        ("a hard link as the root", vec![link(hard, b".", up)]),
        ("a hard link to itself", vec![file(b"h"), link(hard, b"h", b"h")]),
        ("a long hard link", vec![long(b'K', up), link(hard, b"h", b"x"), file(b"h")]),
        (
            "a hard link of a directory",
            vec![directory(b"d"), link(hard, b"h", b"d"), file(b"h/../x")],
        ),
        ("devices", vec![entry(b'3', b"c", b""), entry(b'4', b"b", b""), entry(b'6', b"f", b"")]),
        ("through a device", vec![entry(b'6', b"f", b""), file(b"f/x")]),
        ("a sparse file of 8 EiB", vec![sparse]),
        ("a sparse record", vec![pax(b'x', &[("GNU.sparse.name", up)]), file(b"x")]),
        ("a size in a record", vec![pax(b'x', &[("size", b"99999999999")]), file(b"x")]),
        ("a file of 16 EiB", vec![head(b'0', b"x", u64::MAX).as_bytes().to_vec()]),
        ("records of 8 EiB", vec![head(b'x', b"x", i64::MAX as u64).as_bytes().to_vec()]),
        ("a long name of 8 EiB", vec![head(b'L', b"x", i64::MAX as u64).as_bytes().to_vec()]),
        ("a volume", vec![entry(b'V', up, b""), entry(b'M', up, b"x")]),
        ("a path without end", vec![pax(b'x', &[("path", &b"d/".repeat(2000))]), file(b"x")]),
    ]
}

#[test]
fn no_archive_gets_out_of_the_directory_it_is_unpacked_in() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("canaries/deep")).unwrap();
    for name in ["x", "deep/x"] {
        fs::write(at("canaries").join(name), format!("alive {name}")).unwrap();
    }
    fs::set_permissions(at("canaries/deep"), fs::Permissions::from_mode(0o705)).unwrap();
    // With the mode of the directory itself.
    let canaries = || {
        let mut all = everything(dir.path());
        all.retain(|path, _| path.starts_with(at("canaries")));
        all
    };
    let before = canaries();
    let cases = hostile(at("canaries").as_os_str().as_encoded_bytes());
    assert!(cases.len() >= 40);
    let mut taken = 0;
    for (case, parts) in cases {
        fs::create_dir(at("to")).unwrap();
        // What is there already must not be followed either.
        symlink("../canaries", at("to/d")).unwrap();
        let archive = [parts.concat(), END.to_vec()].concat();
        let destination = CopyDestination::look(&at("to")).unwrap();
        let staged = StagingDirectory::beside(destination.directory().as_fd()).unwrap();
        let mut tree = staged.tree(UnpackRules { umask: 0, links: true }).unwrap();
        let done =
            receive_foreign(&archive[..], &mut tree).and_then(|_| tree.finish()).and_then(|()| {
                let directory = destination.directory().try_clone().unwrap();
                staged.place(&CopyTarget::Into { directory })
            });
        taken += usize::from(done.is_ok());
        assert_eq!(canaries(), before, "{case}: a canary was changed ({done:?})");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{case}: something is beside");
        let staging = |path: &std::path::PathBuf| path.to_string_lossy().contains("mayfly-cp");
        drop(tree);
        assert!(!everything(&at("to")).keys().any(staging), "{case}: something was left behind");
        fs::remove_dir_all(at("to")).unwrap();
    }
    // They are not all refused for a reason that has nothing to do with them.
    assert!(taken > 5, "{taken}");
}
