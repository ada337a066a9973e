//! Valid, odd and hostile archives of other programs, unpacked as `cp -` does in a guest. None changes anything
//! outside of the directory that it is unpacked in.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use mayfly::archive::{
    CopyDestination, CopyTally, CopyTarget, StagingDirectory, UnpackRules, extract,
};
use tempfile::TempDir;

use super::tars::{END, changed, directory, entry, everything, file, head, link, pax};

/// A GNU header for a long name or target, and the name.
fn long(kind: u8, name: &[u8]) -> Vec<u8> {
    entry(kind, b"././@LongLink", &[name, b"\0"].concat())
}

/// Hostile archives in parts. `out` is the directory of the canaries.
fn hostile(out: &[u8]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    // Relative to the root of the tree in the staging directory.
    let up = b"../../../canaries/x";
    let at = |tail: &[u8]| [out, tail].concat();
    let (sym, hard) = (b'2', b'1');
    let huge = sparse(
        &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255],
        &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 0, 0],
    );
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
        ("up after slashes", vec![file(b"///../../../canaries/x")]),
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
        ("a sparse file of 8 EiB", vec![huge]),
        ("a sparse record", vec![pax(b'x', &[("GNU.sparse.name", up)]), file(b"x")]),
        ("a size in a record", vec![pax(b'x', &[("size", b"99999999999")]), file(b"x")]),
        ("a file of 16 EiB", vec![head(b'0', b"x", u64::MAX).as_bytes().to_vec()]),
        ("records of 8 EiB", vec![head(b'x', b"x", i64::MAX as u64).as_bytes().to_vec()]),
        ("a long name of 8 EiB", vec![head(b'L', b"x", i64::MAX as u64).as_bytes().to_vec()]),
        ("a volume", vec![entry(b'V', up, b""), entry(b'M', up, b"x")]),
        ("a path without end", vec![pax(b'x', &[("path", &b"d/".repeat(2000))]), file(b"x")]),
    ]
}

/// Unpacks an archive into `to`.
fn unpack(archive: &[u8], to: &Path) -> Result<CopyTally> {
    let destination = CopyDestination::look(to)?;
    let staged = StagingDirectory::beside(destination.directory().as_fd())?;
    let mut tree = staged.tree(UnpackRules { umask: 0, links: true })?;
    let tally = extract(archive, &mut tree)?;
    tree.finish()?;
    staged.place(&CopyTarget::Into { directory: destination.directory().try_clone()? })?;
    Ok(tally)
}

/// Unpacks an archive of these parts into a new directory.
fn unpacked(parts: &[Vec<u8>]) -> Result<TempDir> {
    let to = TempDir::new()?;
    unpack(&[parts.concat(), END.to_vec()].concat(), to.path())?;
    Ok(to)
}

/// A file with holes, as old GNU tar writes it: `real` bytes with 512 at `first`.
fn sparse(real: &[u8], first: &[u8]) -> Vec<u8> {
    let mut bytes = changed(head(b'S', b"s", 512), |bytes| {
        bytes[257..265].copy_from_slice(b"ustar  \0");
        bytes[386..398].copy_from_slice(first);
        bytes[398..410].copy_from_slice(b"00000001000\0");
        bytes[483..495].copy_from_slice(real);
    });
    bytes.extend([b's'; 512]);
    bytes
}

#[test]
fn names_and_targets_keep_every_byte() {
    let odd = b"line\nfeed=\xff 17 path=evil\n";
    let other = b"d/\nend";
    let binary: &[u8] = b"\x01\n17 path=x/evil\n\0";
    let path: (&str, &[u8]) = ("path", odd);
    // Each archive contains one file, which must get this name.
    type Case<'a> = (&'a str, Vec<Vec<u8>>, &'a [u8]);
    let cases: Vec<Case> = vec![
        ("a record", vec![pax(b'x', &[path]), file(b"short")], odd),
        ("a long name", vec![long(b'L', odd), file(b"short")], odd),
        ("a header", vec![file(odd)], odd),
        (
            "beneath a directory",
            vec![directory(b"d"), pax(b'x', &[("path", other)]), file(b"short")],
            other,
        ),
        (
            "a record rather than a long name",
            vec![long(b'L', b"x"), pax(b'x', &[path]), file(b"y")],
            odd,
        ),
        ("the last of two records", vec![pax(b'x', &[("path", b"x"), path]), file(b"short")], odd),
        ("an empty record", vec![pax(b'x', &[("path", b"")]), file(odd)], odd),
        (
            "records with line ends before it",
            vec![
                pax(
                    b'x',
                    &[
                        ("comment", b"a\n17 path=x/evil\n"),
                        ("uname", b"root\n"),
                        ("gname", b"\n\n="),
                        ("SCHILY.xattr.user.x", binary),
                        path,
                    ],
                ),
                file(b"short"),
            ],
            odd,
        ),
        (
            "records for all before it",
            vec![pax(b'g', &[("comment", b"0123\n17 path=x/evil\n")]), file(odd)],
            odd,
        ),
        ("a record for all", vec![pax(b'g', &[path]), file(b"short")], odd),
        (
            "a record rather than one for all",
            vec![pax(b'g', &[("path", b"x")]), pax(b'x', &[path]), file(b"short")],
            odd,
        ),
    ];
    for (case, parts, name) in cases {
        let to = unpacked(&parts).unwrap();
        let path = to.path().join(OsStr::from_bytes(name));
        let mut all = everything(to.path());
        all.remove(&to.path().join("d"));
        assert_eq!(all.keys().collect::<Vec<_>>(), [&path], "{case}");
        assert_eq!(fs::read(path).unwrap(), b"from the guest", "{case}");
    }
    for (case, set) in
        [("a record", pax(b'x', &[("linkpath", odd)])), ("a long one", long(b'K', odd))]
    {
        let to = unpacked(&[set.clone(), link(b'2', b"l", b"x")]).unwrap();
        let target = fs::read_link(to.path().join("l")).unwrap();
        assert_eq!(target.as_os_str().as_bytes(), odd, "{case}");
        let to = unpacked(&[file(odd), set, link(b'1', b"h", b"x")]).unwrap();
        assert_eq!(to.path().join("h").metadata().unwrap().nlink(), 2, "{case}");
    }
}

#[test]
fn records_say_how_large_and_how_old_a_file_is() {
    let to = unpacked(&[
        pax(b'g', &[("mtime", b"1600000000")]),
        pax(b'x', &[("size", b"4"), ("mtime", b"1500000000.5")]),
        changed(head(b'0', b"x", 0), |_| {}),
        [&b"four"[..], &[0; 508]].concat(),
        file(b"y"),
        pax(b'x', &[("mtime", b"")]),
        changed(head(b'0', b"z", 0), |bytes| {
            bytes[136..148].fill(0xff);
        }),
    ])
    .unwrap();
    let time = |name: &str| {
        let about = to.path().join(name).metadata().unwrap();
        (about.mtime(), about.mtime_nsec())
    };
    assert_eq!(fs::read(to.path().join("x")).unwrap(), b"four");
    assert_eq!((time("x"), time("y")), ((1_500_000_000, 500_000_000), (1_600_000_000, 0)));
    assert_eq!(time("z"), (-1, 0));
    // Version 7 Unix marks directories by a slash only.
    let to = unpacked(&[changed(head(0, b"d/", 0), |_| {}), file(b"d/x")]).unwrap();
    assert!(to.path().join("d/x").is_file());
}

#[test]
fn a_file_with_holes_is_unpacked_or_refused_and_never_called_something_else() {
    let to = unpacked(&[sparse(b"00004000000\0", b"00000400000\0"), file(b"next")]).unwrap();
    let content = fs::read(to.path().join("s")).unwrap();
    assert_eq!(content.len(), 1 << 20);
    assert!(
        content
            .iter()
            .enumerate()
            .all(|(at, &byte)| { (byte == b's') == (1 << 17..(1 << 17) + 512).contains(&at) })
    );
    assert!(to.path().join("s").metadata().unwrap().blocks() * 512 < 1 << 19);
    assert!(to.path().join("next").is_file());
    // In GNU tar's three pax forms, the member's name and content are not those of the file.
    for records in [
        &[("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.numblocks", b"0")][..],
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.name", b"s")],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"s")],
    ] {
        for kind in [b'x', b'g'] {
            let error = unpacked(&[pax(kind, records), file(b"GNUSparseFile.1/s")]).unwrap_err();
            assert!(format!("{error:#}").contains("sparse"), "{error:#}");
        }
    }
}

#[test]
fn invalid_records_are_refused() {
    let cases: [(&str, &[u8], &str); 9] = [
        ("path", b"a\0b", "null byte"),
        ("path", b"../x", "goes up"),
        ("path", b".", "names no file"),
        ("size", b"14\n", "malformed"),
        ("size", b"-1", "malformed"),
        ("uid", b"0\n", "malformed"),
        ("gid", b"x", "malformed"),
        ("mtime", b"1\n5", "a time"),
        ("mtime", b"soon", "a time"),
    ];
    for (key, value, why) in cases {
        let error =
            format!("{:#}", unpacked(&[pax(b'x', &[(key, value)]), file(b"x")]).unwrap_err());
        assert!(error.contains(why), "{key}={value:?}: {error}");
    }
    for damaged in [&b"99 path=x\n"[..], b"path=x\n", b"9 path=x"] {
        let error = unpacked(&[entry(b'x', b"pax", damaged), file(b"x")]).unwrap_err();
        assert!(format!("{error:#}").contains("malformed"), "{error:#}");
    }
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
    // Including the directory itself, because of its mode.
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
        // A link that exists at the destination must not be followed.
        symlink("../canaries", at("to/d")).unwrap();
        let archive = [parts.concat(), END.to_vec()].concat();
        let done = unpack(&archive, &at("to"));
        taken += usize::from(done.is_ok());
        assert_eq!(canaries(), before, "{case}: a canary was changed ({done:?})");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{case}: something is beside");
        let staging = |path: &std::path::PathBuf| path.to_string_lossy().contains("mayfly-cp");
        assert!(!everything(&at("to")).keys().any(staging), "{case}: something was left over");
        fs::remove_dir_all(at("to")).unwrap();
    }
    // Most are refused; some must be unpacked, or the test refuses them for another reason.
    assert!(taken > 5, "{taken}");
}
