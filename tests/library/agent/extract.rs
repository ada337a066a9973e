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
        (
            "up in a sparse record",
            vec![
                pax(
                    b'x',
                    &[
                        ("GNU.sparse.name", up),
                        ("GNU.sparse.size", b"14"),
                        ("GNU.sparse.map", b"0,14"),
                    ],
                ),
                file(b"x"),
            ],
        ),
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
fn a_file_with_holes_keeps_them() {
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
}

/// The three pax formats of GNU tar; bsdtar writes the last one.
#[test]
fn sparse_files_in_pax_formats_keep_name_content_and_holes() {
    let (first, second) = ([b'a'; 700], [b'b'; 10]);
    let data = [&first[..], &second].concat();
    let map = "2\n131072\n700\n1000000\n10\n";
    let mut mapped = map.as_bytes().to_vec();
    mapped.resize(512, 0);
    mapped.extend(&data);
    let old = [
        ("GNU.sparse.size", &b"1048576"[..]),
        ("GNU.sparse.numblocks", b"3"),
        ("GNU.sparse.offset", b"131072"),
        ("GNU.sparse.numbytes", b"700"),
        ("GNU.sparse.offset", b"1000000"),
        ("GNU.sparse.numbytes", b"10"),
        ("GNU.sparse.offset", b"1048576"),
        ("GNU.sparse.numbytes", b"0"),
        ("path", b"s"),
    ];
    let middle = [
        ("GNU.sparse.size", &b"1048576"[..]),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.name", b"s"),
        ("path", b"GNUSparseFile.7/s"),
        ("GNU.sparse.map", b"131072,700,1000000,10"),
    ];
    let new = [
        ("path", &b"GNUSparseFile.0/s"[..]),
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"1048576"),
    ];
    for (case, records, content) in
        [("0.0", &old[..], &data), ("0.1", &middle, &data), ("1.0", &new, &mapped)]
    {
        let member = entry(b'0', b"GNUSparseFile.7/s", content);
        let to = unpacked(&[pax(b'x', records), member, file(b"next")]).expect(case);
        let found = fs::read(to.path().join("s")).unwrap();
        let mut expected = vec![0; 1 << 20];
        expected[131_072..131_772].copy_from_slice(&first);
        expected[1_000_000..1_000_010].copy_from_slice(&second);
        assert!(found == expected, "{case}");
        assert!(to.path().join("s").metadata().unwrap().blocks() * 512 < 1 << 19, "{case}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2, "{case}");
    }
}

#[test]
fn sparse_files_that_make_no_sense_are_refused() {
    let one = |records: &[(&str, &[u8])], content: &[u8]| {
        let error = unpacked(&[pax(b'x', records), entry(b'0', b"GNUSparseFile.1/s", content)]);
        format!("{:#}", error.unwrap_err())
    };
    let size = ("GNU.sparse.size", &b"1048576"[..]);
    let with_map = |map: &[u8], content: &[u8]| one(&[size, ("GNU.sparse.map", map)], content);
    let new = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"1048576"),
    ];
    for said in [
        one(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.name", b"s")], b"x"),
        one(&[size, ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,1")], b"x"),
        one(&[size, ("GNU.sparse.numbytes", b"1"), ("GNU.sparse.offset", b"0")], b"x"),
        one(&[size, ("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")], b"x"),
        with_map(b"0,1,0,1", b"xx"),
        with_map(b"0,1,5", b"x"),
        with_map(b"1,-1", b"x"),
        with_map(b"18446744073709551615,9", b"x"),
        with_map(b"0,1", b"xx"),
        with_map(b"1048576,1", b"x"),
        one(&new, b"x"),
        one(&new, &[b'1'; 512]),
        one(&new, &[&b"99999999\n"[..], &[b'0'; 503]].concat()),
        one(&[("SCHILY.realsize", b"9")], b"x"),
        one(&[("SUN.holesdata", b" 0 9")], b"x"),
    ] {
        assert!(said.contains("sparse"), "{said}");
    }
    // Records for all members, and for one that has no content.
    let error = unpacked(&[pax(b'g', &[size]), file(b"x")]).unwrap_err();
    assert!(format!("{error:#}").contains("sparse"), "{error:#}");
    let error = unpacked(&[pax(b'x', &[size, ("GNU.sparse.map", b"")]), directory(b"x")]);
    assert!(format!("{:#}", error.unwrap_err()).contains("sparse"));
}

#[test]
fn volume_labels_are_skipped_and_later_volumes_refused() {
    // GNU tar leaves most fields empty.
    let label = changed(head(b'V', b"backup of monday", 0), |bytes| bytes[100..136].fill(0));
    let to = unpacked(&[label, pax(b'g', &[("GNU.volume.label", b"x")]), file(b"x")]).unwrap();
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    // A directory of an incremental backup has names as its content, and 7 is a contiguous file.
    let dumped = entry(b'D', b"d/", b"Yx\0\0");
    let to = unpacked(&[dumped, entry(b'7', b"d/x", b"from the guest")]).unwrap();
    assert_eq!(fs::read(to.path().join("d/x")).unwrap(), b"from the guest");
    for parts in [
        vec![entry(b'M', b"x", b"rest")],
        vec![pax(b'x', &[("GNU.volume.offset", b"512")]), file(b"x")],
    ] {
        let error = format!("{:#}", unpacked(&parts).unwrap_err());
        assert!(error.contains("\"x\" in it is the rest of a file"), "{error}");
    }
    let error = unpacked(&[entry(b'X', b"x", b"")]).unwrap_err();
    assert!(format!("{error:#}").contains("type 'X'"), "{error:#}");
}

/// Compresses with a program.
fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new(program)
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut input, bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn compressed_archives_are_unpacked_and_damaged_ones_refused() {
    let noise: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let archive = [entry(b'0', b"x", &noise), END.to_vec()].concat();
    let into = |bytes: &[u8]| {
        let to = TempDir::new().unwrap();
        unpack(bytes, to.path())?;
        assert!(fs::read(to.path().join("x")).unwrap() == noise);
        anyhow::Ok(())
    };
    let (one, two) = archive.split_at(70_000);
    for program in ["gzip", "xz", "zstd"] {
        let whole = packed(program, &archive);
        into(&whole).expect(program);
        // Concatenated members, streams or frames.
        into(&[packed(program, one), packed(program, two)].concat()).expect(program);
        // The end of the archive is there, but not that of the compressed data.
        for cut in [whole.len() / 2, whole.len() - 3] {
            assert!(into(&whole[..cut]).is_err(), "{program} cut at {cut}");
        }
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 0x10;
        assert!(into(&damaged).is_err(), "{program} damaged");
        assert!(into(&[&whole[..], b"garbage"].concat()).is_err(), "{program} and garbage");
    }
    // gzip allows zeros at the end.
    into(&[packed("gzip", &archive), vec![0; 10_000]].concat()).unwrap();
    for (start, command) in [
        (&b"BZh91AY&SY"[..], "bzip2 -dc"),
        (b"\x04\x22\x4d\x18\x64\x40\xa7", "lz4 -dc"),
        (b"LZIP\x01\x0c\0", "lzip -dc"),
        (b"\x5d\0\0\x80\0\xff\xff", "xz --format=lzma -dc"),
        (b"PK\x03\x04\x14\0\0", "unzip"),
        (b"070701000", "cpio -i"),
        (b"\x1f\x9d\x90abc", "gzip -dc"),
    ] {
        let error = format!("{:#}", into(start).unwrap_err());
        assert!(error.contains(&format!("unpack it first, with '{command}'")), "{error}");
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
