//! Times and modes of the files in an imported image.

use std::fs;
use std::path::Path;
use std::process::Command;

use tar::{Builder, EntryType, Header};

use crate::support::environment::Environment;
use crate::support::programs;

/// What debugfs says about a file of an image.
#[track_caller]
fn debugfs(image: &Path, request: &str) -> String {
    let output = Command::new("debugfs")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TZ", "UTC")
        .arg("-R")
        .arg(request)
        .arg(image.join("rootfs.ext4"))
        .output()
        .expect("debugfs is of e2fsprogs, which images are made with");
    String::from_utf8(output.stdout).unwrap()
}

/// The modification time in a file's inode: 32 bits, and two that continue them.
#[track_caller]
fn mtime(image: &Path, name: &str) -> i64 {
    let about = debugfs(image, &format!("stat \"/{}\"", name.replace('"', "\"\"")));
    mtime_in(&about, name)
}

#[track_caller]
fn mtime_in(about: &str, name: &str) -> i64 {
    let line = about.lines().find(|line| line.trim_start().starts_with("mtime:"));
    let line = line.unwrap_or_else(|| panic!("no time of {name} in {about}"));
    let number = line.split_whitespace().nth(1).unwrap().trim_start_matches("0x");
    let (low, extra) = number.split_once(':').unwrap_or((number, "0"));
    let low = u32::from_str_radix(low, 16).unwrap().cast_signed();
    let epoch = i64::from(u32::from_str_radix(extra, 16).unwrap() & 3);
    i64::from(low) + (epoch << 32)
}

#[track_caller]
fn mode(image: &Path, name: &str) -> u32 {
    let about = debugfs(image, &format!("stat {name}"));
    let mode =
        about.split_once("Mode:").unwrap_or_else(|| panic!("no mode of {name} in {about}")).1;
    u32::from_str_radix(mode.split_whitespace().next().unwrap(), 8).unwrap()
}

/// What each time is given to, and how the name ends.
const KINDS: [(EntryType, &str); 5] = [
    (EntryType::Regular, ""),
    (EntryType::Directory, ".d"),
    (EntryType::Symlink, ".l"),
    (EntryType::Fifo, ".p"),
    (EntryType::Link, ".h"),
];

/// ext4 keeps times from 1901 to 2446; others become the nearest of these. A name with a line break cannot be told to
/// debugfs, so its time ends in 2038.
#[test]
fn times_are_right_or_the_nearest_that_fits() {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    let cases: [(&str, &str, i64); _] = [
        ("now", "1700000000", 1_700_000_000),
        ("fraction", "1700000000.75", 1_700_000_000),
        ("before-1970", "-315619200", -315_619_200),
        ("negative-fraction", "-1.5", -2),
        ("epoch", "0", 0),
        ("last", "2147483647", i32::MAX.into()),
        ("after-2038", "2524608000", 2_524_608_000),
        ("first-after-2038", "2147483648", 2_147_483_648),
        ("after-2106", "4294967296", 4_294_967_296),
        ("after-2242", "8589934592.5", 8_589_934_592),
        ("a b", "7258118400", 7_258_118_400),
        ("#", "7258118400", 7_258_118_400),
        ("<2>", "7258118400", 7_258_118_400),
        ("'q' \"quo\"\"ted\\\"", "7258118400", 7_258_118_400),
        ("tab\tbell\u{7}", "7258118400", 7_258_118_400),
        ("deep/er/\u{e9}", "7258118400", 7_258_118_400),
        ("last-of-ext4", "15032385535", 15_032_385_535),
        ("far", "99999999999", 15_032_385_535),
        ("first", "-2147483648", i32::MIN.into()),
        ("before-1901", "-3786825600", i32::MIN.into()),
    ];
    let mut tar = Builder::new(Vec::new());
    for (name, time, _) in cases {
        for (kind, end) in KINDS {
            tar.append_pax_extensions([("mtime", time.as_bytes())]).unwrap();
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path(format!("{name}{end}")).unwrap();
            header.set_link_name(if kind == EntryType::Link { name } else { "to" }).unwrap();
            header.set_size(0);
            header.set_mode(0o755);
            header.set_cksum();
            tar.append(&header, &b""[..]).unwrap();
        }
    }
    tar.append_pax_extensions([("mtime", &b"7258118400"[..])]).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("lines/a\nb").unwrap();
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    // As GNU tar writes it, in the header itself.
    let mut header = Header::new_gnu();
    header.set_path("binary").unwrap();
    header.set_size(0);
    header
        .as_gnu_mut()
        .unwrap()
        .mtime
        .copy_from_slice(&[[0xff; 4].as_slice(), &(-86_400_i64).to_be_bytes()].concat());
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    let path = env.root().join("source.tar");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    env.run(&["image", "import", "-q", path.to_str().unwrap(), "x"]).prints("x\n");
    let image = env.artifacts().join("x");
    for (name, _, expected) in cases {
        for (kind, end) in KINDS {
            assert_eq!(mtime(&image, &format!("{name}{end}")), expected, "{name}: {kind:?}");
        }
    }
    let inode = debugfs(&image, "ls -p /lines");
    let inode = inode.lines().find(|line| line.contains("/a")).unwrap().split('/').nth(1).unwrap();
    let about = debugfs(&image, &format!("stat <{inode}>"));
    assert_eq!(mtime_in(&about, "a line break"), i64::from(i32::MAX));
    assert_eq!(mtime(&image, "binary"), -86_400);
}

/// Every directory that mayfly adds is as Debian has it, whatever the umask.
#[test]
fn added_directories_are_readable_by_every_user() {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o755);
    tar.append_data(&mut header, "usr/sbin/modprobe", &b"x"[..]).unwrap();
    let path = env.root().join("source.tar");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    for umask in ["022", "077"] {
        let shell = format!(
            "umask {umask}; exec {} image import -q {} x",
            programs::mayfly().display(),
            path.display()
        );
        env.run_client("sh", &["-c", &shell]).prints("x\n");
        let image = env.artifacts().join("x");
        for (name, expected) in [
            ("/", 0o755),
            ("/usr", 0o755),
            ("/usr/sbin", 0o755),
            ("/lib", 0o755),
            ("/lib/modules", 0o755),
            ("/dev", 0o755),
            ("/proc", 0o755),
            ("/sys", 0o755),
            ("/run", 0o755),
            ("/etc", 0o755),
            ("/tmp", 0o1777),
            ("/etc/resolv.conf", 0o644),
        ] {
            assert_eq!(mode(&image, name), expected, "{name} with umask {umask}");
        }
        let release = debugfs(&image, "ls -p /lib/modules");
        let release = release.split('/').find(|part| part.contains("amd64")).unwrap().to_owned();
        for name in ["", "/kernel", "/kernel/drivers"] {
            let name = format!("/lib/modules/{release}{name}");
            assert_eq!(mode(&image, &name), 0o755, "{name} with umask {umask}");
        }
    }
}
