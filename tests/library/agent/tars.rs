//! Guests that send hostile tar streams while files are copied out of a VM. Each stream must leave a tree of
//! canaries unchanged, and nothing at the destination.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mayfly::archive::{CopyDestination, CopyTally};
use mayfly::guest::AgentSession;
use mayfly::host::signals::PendingSignals;
use mayfly::host::wait::WaitLimit;
use mayfly::lifecycle::{CopyOut, CopyStore, CopyUser, copy_out};
use mayfly::model::{NetworkLimit, Refusal, RefusalKind, ValueRange, VmLimits};
use mayfly::output::ErrorReport;
use mayfly::protocol::{FrameKind, FrameOutbox, Hello, HelloAck, STREAM_PAYLOAD, VERSION};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::harness::channel;

const INFO: &[u8] = br#"{"version":"9.9.9","kernel":"6.1","init":true}"#;
const EXIT: &[u8] = br#"{"end":{"code":0},"timed_out":false,"duration_ms":3}"#;

/// Writes the stream that a guest sends.
type Sends = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send>;

/// Standard output of a command in the fake guest.
struct Stdout {
    line: UnixStream,
    nonce: u64,
}

impl Stdout {
    fn frame(&mut self, kind: FrameKind, payload: &[u8]) -> std::io::Result<()> {
        let mut outbox = FrameOutbox::default();
        outbox.push(kind, self.nonce, payload);
        self.line.write_all(outbox.pending())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(STREAM_PAYLOAD);
        if count > 0 {
            self.frame(FrameKind::Stdout, &bytes[..count])?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An agent that accepts any command, sends that stream and reports success.
fn guest(sends: Sends) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut hello = [0; Hello::SIZE];
        theirs.read_exact(&mut hello).unwrap();
        let nonce = Hello::find(&hello).0.unwrap().nonce;
        theirs.write_all(&HelloAck { version: VERSION, nonce }.encode()).unwrap();
        let mut out = Stdout { line: theirs, nonce };
        out.frame(FrameKind::AgentInfo, INFO).unwrap();
        out.frame(FrameKind::Started, br#"{"pid":7}"#).unwrap();
        // Writing fails once the host has refused the stream.
        let mut buffered = BufWriter::with_capacity(STREAM_PAYLOAD, &mut out);
        let sent = sends(&mut buffered).and_then(|()| buffered.flush());
        // Drops what is still buffered.
        drop(buffered.into_parts());
        match sent {
            Ok(()) => drop(out.frame(FrameKind::Exit, EXIT)),
            Err(_) => drop(out.line.shutdown(std::net::Shutdown::Write)),
        }
        let _ = out.line.read_to_end(&mut Vec::new());
    });
    ours
}

/// A directory to copy to, and one that must not change.
struct Ground {
    dir: TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Ground {
    fn new() -> Ground {
        let dir = TempDir::new().unwrap();
        let canaries = dir.path().join("canaries");
        fs::create_dir_all(canaries.join("deep")).unwrap();
        for name in ["passwd", "x", "deep/x", "a", "t"] {
            fs::write(canaries.join(name), format!("alive {name}")).unwrap();
        }
        fs::create_dir(dir.path().join("to")).unwrap();
        let before = everything(&canaries);
        Ground { dir, before }
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    fn canaries(&self) -> PathBuf {
        self.dir.path().join("canaries")
    }

    /// Copies what a guest sends to `path` beneath the directory.
    fn copy(&self, path: &str, limits: &VmLimits, sends: Sends) -> anyhow::Result<CopyTally> {
        let destination = CopyDestination::look(&self.to().join(path))?;
        self.store("/asked/for", CopyStore::Files(destination), limits, sends)
    }

    /// Copies what a guest sends as `source` to an archive. Returns that too.
    fn archive(&self, source: &str, sends: Sends) -> (anyhow::Result<CopyTally>, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        let out = CopyStore::Archive(file.try_clone().unwrap().into());
        let copied = self.store(source, out, &limits(), sends);
        file.rewind().unwrap();
        let mut archive = Vec::new();
        file.read_to_end(&mut archive).unwrap();
        (copied, archive)
    }

    fn store(
        &self,
        source: &str,
        to: CopyStore,
        limits: &VmLimits,
        sends: Sends,
    ) -> anyhow::Result<CopyTally> {
        let run_as = CopyUser::default();
        let copy = CopyOut { path: source.into(), follow: false, to, run_as };
        let mut wait = WaitLimit::within(Duration::from_secs(5));
        let mut session = AgentSession::open(channel(guest(sends)), false, &mut wait)?;
        let mut signals = PendingSignals::block().unwrap();
        copy_out(&mut session, copy, limits, &mut signals, &())
    }

    #[track_caller]
    fn is_untouched(&self, case: &str) {
        assert_eq!(everything(&self.canaries()), self.before, "{case}: a canary was changed");
        let left: Vec<PathBuf> = everything(&self.to()).into_keys().collect();
        assert!(left.is_empty(), "{case}: this was left over: {left:?}");
        let beside = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(beside, 2, "{case}: something is beside the place");
    }
}

/// Every path below a directory, with everything that could be changed.
pub fn everything(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let (mode, mtime, links) = (meta.mode(), meta.mtime_nsec(), meta.nlink());
        found.insert(entry.into_path(), format!("{mode:o} {mtime} {links} {content:?}"));
    }
    found
}

fn limits() -> VmLimits {
    let any = ValueRange { min: 0, max: 0 };
    VmLimits {
        max_active_vms: 0,
        vcpu_count: any,
        mem_mib: any,
        ttl_seconds: any,
        vmm_uid: any,
        network: NetworkLimit::Egress,
        pool_ttl_seconds: 0,
        template_unused_seconds: 0,
        copy_out_mib: 16,
        copy_out_files: 3_000,
        copy_out_free_mib: 0,
    }
}

/// A header in the form that mayfly writes.
pub fn head(kind: u8, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

/// An entry with content, filled up to a whole block.
pub fn entry(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = head(kind, name, content.len() as u64).as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn file(name: &[u8]) -> Vec<u8> {
    entry(b'0', name, b"from the guest")
}

pub fn directory(name: &[u8]) -> Vec<u8> {
    entry(b'5', name, b"")
}

pub fn link(kind: u8, name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut header = head(kind, name, 0);
    header.as_ustar_mut().unwrap().linkname[..target.len()].copy_from_slice(target);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// An extended header with these records.
pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|length| rest + length.to_string().len() == *length);
        bytes.extend(format!("{} {key}=", length.unwrap()).as_bytes());
        bytes.extend(*value);
        bytes.push(b'\n');
    }
    entry(kind, b"pax", &bytes)
}

pub fn changed(mut header: Header, change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    change(header.as_mut_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

pub const END: [u8; 1024] = [0; 1024];

/// A stream of a root directory and these entries.
fn tree(parts: &[Vec<u8>]) -> Vec<u8> {
    [directory(b"./"), parts.concat(), END.to_vec()].concat()
}

/// Streams that must be refused, and part of the error.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let up = b"../../canaries/x";
    let long = |size: u64| head(b'L', b"././@LongLink", size).as_bytes().to_vec();
    let noise: Vec<u8> =
        (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    vec![
        // Names that lead elsewhere.
        ("up", tree(&[file(up)]), "goes up"),
        ("up from within", tree(&[directory(b"d"), file(b"d/../../x")]), "goes up"),
        ("up as the root", [file(b".."), END.to_vec()].concat(), "goes up"),
        ("up as a directory", tree(&[directory(b"../canaries"), file(b"x")]), "goes up"),
        ("absolute", tree(&[file(b"/tmp/mayfly-canary")]), "is absolute"),
        ("absolute root", [file(b"/etc/passwd"), END.to_vec()].concat(), "is absolute"),
        ("doubled slash", tree(&[file(b"//etc/passwd")]), "is absolute"),
        (
            "up in the prefix",
            tree(&[changed(head(b'0', b"x", 0), |bytes| {
                bytes[345..357].copy_from_slice(b"../canaries/")
            })]),
            "goes up",
        ),
        (
            "absolute prefix",
            tree(&[changed(head(b'0', b"passwd", 0), |bytes| {
                bytes[345..349].copy_from_slice(b"/etc")
            })]),
            "is absolute",
        ),
        ("up in an extended header", tree(&[pax(b'x', &[("path", up)]), file(b"fine")]), "goes up"),
        (
            "absolute in an extended header",
            tree(&[pax(b'x', &[("path", b"/etc/passwd")]), file(b"fine")]),
            "is absolute",
        ),
        ("null in a name", tree(&[pax(b'x', &[("path", b"a\0b")]), file(b"a")]), "null byte"),
        ("long part", tree(&[pax(b'x', &[("path", &[b'n'; 256])]), file(b"n")]), "too long"),
        ("long path", tree(&[pax(b'x', &[("path", &b"n/".repeat(2100))]), file(b"n")]), "too long"),
        ("deep path", tree(&[pax(b'x', &[("path", &b"n/".repeat(300))]), file(b"n")]), "asked for"),
        // Names that were not asked for, or twice.
        ("no root", [file(b"x"), END.to_vec()].concat(), "asked for"),
        ("beneath a file", [file(b"."), file(b"x"), END.to_vec()].concat(), "asked for"),
        ("two roots", tree(&[directory(b".")]), "twice"),
        ("a file as second root", tree(&[file(b"./.")]), "twice"),
        ("without a parent", tree(&[file(b"d/x")]), "asked for"),
        (
            "back in a directory that was left",
            tree(&[directory(b"d"), directory(b"e"), file(b"d/x")]),
            "asked for",
        ),
        ("twice", tree(&[file(b"x"), file(b"x")]), "twice"),
        ("twice with a dot", tree(&[file(b"x"), file(b"./x")]), "twice"),
        ("a file and a directory", tree(&[file(b"x"), directory(b"x")]), "twice"),
        ("a directory again", tree(&[directory(b"d"), file(b"d/x"), directory(b"d")]), "twice"),
        // Through a link.
        ("through a link", tree(&[link(b'2', b"l", b"../canaries"), file(b"l/x")]), "asked for"),
        (
            "through an absolute link",
            tree(&[link(b'2', b"l", b"/etc"), directory(b"l/deep")]),
            "asked for",
        ),
        ("link as root", [link(b'2', b".", b"/etc"), END.to_vec()].concat(), "symbolic link"),
        (
            "link as root, and more",
            [link(b'2', b".", b"/etc"), file(b"x"), END.to_vec()].concat(),
            "asked for",
        ),
        ("hard link", tree(&[link(b'1', b"h", b"../canaries/passwd")]), "type '1'"),
        (
            "hard link, then write",
            tree(&[link(b'1', b"passwd", b"/etc/passwd"), file(b"passwd")]),
            "type '1'",
        ),
        (
            "long target",
            tree(&[pax(b'x', &[("linkpath", &[b'n'; 5000])]), link(b'2', b"l", b"n")]),
            "malformed",
        ),
        // Other kinds.
        ("device as root", [entry(b'4', b".", b""), END.to_vec()].concat(), "device"),
        ("sparse", tree(&[entry(b'S', b"s", b"")]), "type 'S'"),
        (
            "sparse of 8 EiB",
            tree(&[changed(head(b'S', b"s", 512), |bytes| {
                bytes[257..265].copy_from_slice(b"ustar  \0");
                bytes[483..495]
                    .copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
            })]),
            "malformed",
        ),
        (
            "pax sparse",
            tree(&[pax(b'x', &[("GNU.sparse.realsize", b"9223372036854775807")]), file(b"s")]),
            "malformed",
        ),
        ("volume", tree(&[entry(b'V', b"v", b"")]), "type 'V'"),
        ("multi-volume", tree(&[entry(b'M', b"v", b"")]), "type 'M'"),
        ("dump directory", tree(&[entry(b'D', b"v", b"x\0")]), "type 'D'"),
        ("escape in a kind", tree(&[entry(0x1b, b"\x1b[2Jv", b"")]), "type '\\u{1b}'"),
        ("GNU long name", tree(&[long(17), b"../../canaries/x".to_vec()]), "type 'L'"),
        ("GNU long name of 8 EiB", tree(&[long(i64::MAX as u64)]), "type 'L'"),
        ("GNU long link", tree(&[entry(b'K', b"././@LongLink", b"/etc/passwd")]), "type 'K'"),
        // Sizes.
        (
            "a file of 8 EiB",
            tree(&[head(b'0', b"x", i64::MAX as u64).as_bytes().to_vec()]),
            "larger than 16 MiB",
        ),
        (
            "a file of 16 EiB",
            tree(&[head(b'0', b"x", u64::MAX).as_bytes().to_vec()]),
            "larger than 16 MiB",
        ),
        (
            "size in an extended header",
            tree(&[pax(b'x', &[("size", b"99999999")]), file(b"x")]),
            "malformed",
        ),
        (
            "an extended header of 8 EiB",
            tree(&[head(b'x', b"x", i64::MAX as u64).as_bytes().to_vec()]),
            "malformed",
        ),
        (
            "an extended header of 1 MiB",
            tree(&[entry(b'x', b"x", &vec![b'1'; 1 << 20])]),
            "malformed",
        ),
        ("a directory with content", tree(&[entry(b'5', b"d", b"content")]), "malformed"),
        (
            "a negative size",
            tree(&[changed(head(b'0', b"x", 0), |b| {
                b[124..136].copy_from_slice(b"-0000000001\0")
            })]),
            "malformed",
        ),
        (
            "a size of letters",
            tree(&[changed(head(b'0', b"x", 0), |b| {
                b[124..136].copy_from_slice(b"zzzzzzzzzzz\0")
            })]),
            "malformed",
        ),
        (
            "a mode of letters",
            tree(&[changed(head(b'0', b"x", 0), |b| b[100..107].copy_from_slice(b"rwxrwxr"))]),
            "malformed",
        ),
        // Extended headers.
        (
            "records without end",
            tree(&[entry(b'x', b"x", b"999 path=x\n"), file(b"x")]),
            "malformed",
        ),
        (
            "two extended headers",
            tree(&[pax(b'x', &[("path", b"x")]), pax(b'x', &[("path", b"y")]), file(b"x")]),
            "type 'x'",
        ),
        ("an extended header and nothing", tree(&[pax(b'x', &[("path", b"x")])]), "malformed"),
        (
            "a path for all",
            [pax(b'g', &[("path", b"../x")]), tree(&[file(b"x")])].concat(),
            "malformed",
        ),
        (
            "a header for all in between",
            tree(&[pax(b'g', &[("MAYFLY.total", b"1")]), file(b"x")]),
            "type 'g'",
        ),
        ("a time that is none", tree(&[pax(b'x', &[("mtime", b"1e99")]), file(b"x")]), "malformed"),
        // Damaged or incomplete streams.
        ("nothing", Vec::new(), "ends too early"),
        ("only an end", END.to_vec(), "malformed"),
        ("noise", noise, "malformed"),
        ("text", b"<html>404 not found</html>".repeat(100), "malformed"),
        (
            "a wrong checksum",
            tree(&[{
                let mut f = file(b"x");
                f[0] = b'y';
                f
            }]),
            "malformed",
        ),
        (
            "an old header",
            tree(&[changed(head(b'0', b"x", 0), |b| b[257..265].fill(0))]),
            "malformed",
        ),
        ("more after the end", [tree(&[file(b"x")]), file(b"y")].concat(), "malformed"),
        (
            "one block of zeros in between",
            [directory(b"."), vec![0; 512], file(b"x"), END.to_vec()].concat(),
            "malformed",
        ),
        ("zeros for ever", [tree(&[file(b"x")]), vec![0; 4 << 20]].concat(), "malformed"),
        ("no end", [directory(b"."), file(b"x")].concat(), "ends too early"),
        ("half an end", [directory(b"."), file(b"x"), vec![0; 512]].concat(), "ends too early"),
        ("cut in a header", tree(&[file(b"x")])[..700].to_vec(), "ends too early"),
        (
            "cut in a file",
            tree(&[entry(b'0', b"x", &[7; 4000])])[..2000].to_vec(),
            "ends too early",
        ),
    ]
}

#[test]
fn no_hostile_stream_gets_anywhere() {
    let ground = Ground::new();
    let cases = hostile();
    assert!(cases.len() >= 40);
    for (case, stream, why) in cases {
        // To a new path and into an existing directory.
        for path in ["new", "."] {
            let stream = stream.clone();
            let copied = ground.copy(path, &limits(), Box::new(move |out| out.write_all(&stream)));
            let error = copied.expect_err(case);
            let said = ErrorReport::of(&error);
            assert!(said.message.contains(why), "{case}: {}", said.message);
            assert!(said.message.bytes().all(|byte| byte >= b' '), "{case}: {:?}", said.message);
            ground.is_untouched(case);
        }
        // An archive is refused for the same reasons, and gets no end.
        let sends: Sends = Box::new(move |out| out.write_all(&stream));
        let (copied, archive) = ground.archive("/asked/for", sends);
        let said = ErrorReport::of(&copied.expect_err(case)).message;
        assert!(said.contains(why), "{case} to an archive: {said}");
        assert!(!archive.ends_with(&END), "{case}: the archive looks complete");
    }
}

#[test]
fn what_is_not_copied_is_named_and_the_rest_comes() {
    let ground = Ground::new();
    let stream = tree(&[
        link(b'2', b"link", b"/etc/passwd"),
        link(b'2', b"up\x1b[2J", b"../../canaries/x"),
        entry(b'3', b"char", b""),
        entry(b'4', b"block", b""),
        entry(b'6', b"fifo", b""),
        pax(b'x', &[("path", b"n\xff\n\xe2\x80\xae"), ("mtime", b"1600000000.25")]),
        changed(head(b'0', b"short", 0), |bytes| bytes[100..107].copy_from_slice(b"0007777")),
        changed(head(b'5', b"dir/", 0), |bytes| bytes[100..107].copy_from_slice(b"0007775")),
        file(b"dir/shut"),
    ]);
    let tally = ground.copy("new", &limits(), Box::new(move |out| out.write_all(&stream))).unwrap();
    let names: Vec<String> = tally.skipped.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["link", "up\x1b[2J", "char", "block", "fifo"]);
    assert_eq!((tally.files, tally.directories, tally.skipped_count), (2, 2, 5));
    let new = ground.to().join("new");
    let mut there: Vec<PathBuf> = everything(&new).into_keys().collect();
    there.retain(|path| path.symlink_metadata().unwrap().file_type().is_symlink());
    assert!(there.is_empty());
    // Set-id and sticky bits are dropped, and the umask applies.
    for (path, mode) in [("dir", 0o775), ("dir/shut", 0o644)] {
        let mode_there = new.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        let umask = mayfly::host::process::umask().unwrap();
        assert_eq!(mode_there, mode & !umask, "{path}");
    }
    fs::remove_dir_all(new).unwrap();
    ground.is_untouched("what is not copied");
}

#[test]
fn bombs_are_defused_while_they_come() {
    let ground = Ground::new();
    let refusal = |limits: &VmLimits, sends: Sends| {
        let begun = Instant::now();
        let error = ground.copy("new", limits, sends).unwrap_err();
        ground.is_untouched("a bomb");
        assert!(begun.elapsed() < Duration::from_secs(20));
        error.downcast::<Refusal>().unwrap()
    };
    // Ten million files, or directories in directories.
    let many = refusal(
        &limits(),
        Box::new(|out| {
            out.write_all(&directory(b"."))?;
            (0..10_000_000)
                .try_for_each(|n| out.write_all(&entry(b'0', format!("{n}").as_bytes(), b"")))
        }),
    );
    assert!(many.message.contains("more than 3000 files"), "{many}");
    assert_eq!(many.kind, RefusalKind::LimitReached);
    assert!(many.hint.unwrap().contains("limits.copy_out_files"));
    let many = refusal(
        &limits(),
        Box::new(|out| {
            out.write_all(&directory(b"."))?;
            (0..10_000_000).try_for_each(|n| out.write_all(&directory(format!("{n}/").as_bytes())))
        }),
    );
    assert!(many.message.contains("more than 3000 files"), "{many}");
    // Entries that are skipped count as well.
    let many = refusal(
        &limits(),
        Box::new(|out| {
            out.write_all(&directory(b"."))?;
            (0..10_000_000)
                .try_for_each(|n| out.write_all(&link(b'2', format!("{n}").as_bytes(), b"x")))
        }),
    );
    assert!(many.message.contains("more than 3000 files"), "{many}");
    // Small files that add up.
    let large = refusal(
        &limits(),
        Box::new(|out| {
            out.write_all(&directory(b"."))?;
            let mebibyte = vec![0; 1 << 20];
            (0..1_000_000)
                .try_for_each(|n| out.write_all(&entry(b'0', format!("{n}").as_bytes(), &mebibyte)))
        }),
    );
    assert!(large.message.contains("larger than 16 MiB"), "{large}");
    // Less space would stay free than allowed.
    let floor = VmLimits { copy_out_free_mib: u64::MAX, ..limits() };
    let room = refusal(&floor, Box::new(|out| out.write_all(&tree(&[file(b"x")]))));
    assert!(room.message.contains("there is no room for a file"), "{room}");
    assert!(room.hint.unwrap().contains("limits.copy_out_free_mib"));
}

#[test]
fn a_destination_that_is_swapped_meanwhile_is_not_followed() {
    for is_there in [false, true] {
        let ground = Ground::new();
        let (to, moved) = (ground.to(), ground.dir.path().join("moved"));
        let canaries = ground.canaries();
        if is_there {
            // A directory that is merged with is replaced by a link.
            fs::create_dir(to.join("for")).unwrap();
        }
        let path = if is_there { "." } else { "new" };
        let sends: Sends = Box::new(move |out| {
            out.write_all(&directory(b"."))?;
            out.write_all(&directory(b"deep"))?;
            // This takes many reads, so the receiver has begun when the directory is swapped.
            out.write_all(&entry(b'0', b"deep/x", &[1; 300_000]))?;
            fs::rename(&to, &moved)?;
            symlink(&canaries, &to)?;
            if is_there {
                fs::remove_dir(moved.join("for"))?;
                symlink(&canaries, moved.join("for"))?;
            }
            out.write_all(&entry(b'0', b"passwd", &[2; 300_000]))?;
            out.write_all(&END)
        });
        let copied = ground.copy(path, &limits(), sends);
        let moved = ground.dir.path().join("moved");
        assert_eq!(everything(&ground.canaries()), ground.before);
        let names: Vec<_> =
            fs::read_dir(&moved).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if is_there {
            let error = format!("{:#}", copied.unwrap_err());
            assert!(error.contains("is a symbolic link there"), "{error}");
            assert_eq!(names, ["for"]);
        } else {
            // The directory that was held open, at its new place.
            assert_eq!(copied.unwrap().files, 2);
            assert_eq!(names, ["new"]);
            assert!(moved.join("new/deep/x").is_file());
        }
    }
}

#[test]
fn an_archive_without_a_name_of_its_own_has_a_directory_as_root() {
    let ground = Ground::new();
    let root = [file(b"."), END.to_vec()].concat();
    let (copied, archive) = ground.archive("/", Box::new(move |out| out.write_all(&root)));
    let said = ErrorReport::of(&copied.unwrap_err()).message;
    assert!(said.contains("names no file"), "{said}");
    assert!(archive.is_empty());
}

#[test]
fn a_guest_that_goes_away_leaves_nothing() {
    let ground = Ground::new();
    let sends: Sends = Box::new(|out| {
        out.write_all(&tree(&[entry(b'0', b"x", &[7; 200_000])])[..100_000])?;
        Err(std::io::ErrorKind::Other.into())
    });
    let error = ground.copy("new", &limits(), sends).unwrap_err();
    assert_eq!(Refusal::find(&error).unwrap().kind, RefusalKind::Agent);
    ground.is_untouched("a guest that goes away");
}
