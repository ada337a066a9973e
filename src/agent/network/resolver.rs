//! `/etc/resolv.conf`: who looks up names.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use crate::protocol::network::GATEWAY_V4;

/// Names that the C library could not find are not asked for again with a suffix: the helper does that.
fn content() -> String {
    format!("# The network helper of this VM.\nnameserver {GATEWAY_V4}\noptions ndots:0\n")
}

/// Makes the helper the resolver of a root file system.
///
/// Images have other things in this place, such as a link to a file that a service would make at its start.
///
/// # Errors
/// The file cannot be written.
pub fn write(root: &Path) -> io::Result<()> {
    let directory = root.join("etc");
    let path = directory.join("resolv.conf");
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => {}
        Ok(found) if found.is_dir() => fs::remove_dir_all(&path)?,
        Ok(_) => fs::remove_file(&path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(&directory)?,
        Err(error) => return Err(error),
    }
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    open.open(&path)?.write_all(content().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn whatever_an_image_has_there_is_replaced() {
        type Prepare = fn(&Path);
        let cases: [Prepare; 5] = [
            |_| {},
            |path| fs::write(path, "nameserver 10.0.0.1\n".repeat(100)).unwrap(),
            |path| symlink("../run/systemd/resolve/stub-resolv.conf", path).unwrap(),
            |path| symlink("hosts", path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
        ];
        for prepare in cases {
            let root = tempfile::tempdir().unwrap();
            let etc = root.path().join("etc");
            fs::create_dir(&etc).unwrap();
            fs::write(etc.join("hosts"), "kept").unwrap();
            prepare(&etc.join("resolv.conf"));
            write(root.path()).unwrap();
            assert_eq!(fs::read_to_string(etc.join("resolv.conf")).unwrap(), content());
            assert_eq!(fs::read_to_string(etc.join("hosts")).unwrap(), "kept");
            assert!(etc.join("resolv.conf").symlink_metadata().unwrap().is_file());
        }
        let empty = tempfile::tempdir().unwrap();
        write(empty.path()).unwrap();
        assert!(empty.path().join("etc/resolv.conf").is_file());
    }
}
