//! What a `Setup` frame changes in a guest: its clock, its randomness, its name.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use nix::errno::Errno;
use nix::libc;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::sethostname;

use crate::agent::network::interface;
use crate::protocol::SetupRequest;
use crate::protocol::network::NO_DRIVER;
use crate::sys::random;

/// Bytes of entropy: the generator's key has 256 bits.
const MIN_ENTROPY: usize = 32;

/// The kernel's `struct rand_pool_info`, with room for the most that a `Setup` frame can carry.
#[repr(C)]
struct RandPoolInfo {
    /// Bits credited.
    entropy_count: libc::c_int,
    /// Bytes that follow.
    buf_size: libc::c_int,
    buf: [u8; 512],
}

/// `_IOW('R', 0x03, int[2])` and `_IO('R', 0x07)` of linux/random.h.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// Applies all of it. Entropy is first, because other steps may use it.
///
/// # Errors
/// The step that failed; later steps were not applied.
pub fn apply(setup: &SetupRequest) -> Result<()> {
    credit_entropy(&setup.entropy)?;
    let time = TimeSpec::from_duration(Duration::from_nanos(setup.unix_ns));
    clock_settime(ClockId::CLOCK_REALTIME, time).context("set the clock")?;
    if setup.network {
        let found = nix::net::if_::if_nametoindex(interface::ETHERNET);
        found.context(NO_DRIVER)?;
    }
    set_name(&setup.hostname).context("set the host name")?;
    new_machine_id().context("write /etc/machine-id")
}

fn credit_entropy(base64: &str) -> Result<()> {
    let bytes = BASE64_STANDARD.decode(base64).context("the entropy is not base64")?;
    if bytes.len() < MIN_ENTROPY || bytes.len() > 512 {
        bail!("{} bytes of entropy, not {MIN_ENTROPY} to 512", bytes.len());
    }
    let random = OpenOptions::new().write(true).open("/dev/urandom");
    let random = random.context("open /dev/urandom")?;
    let mut info = RandPoolInfo {
        entropy_count: bytes.len() as libc::c_int * 8,
        buf_size: bytes.len() as libc::c_int,
        buf: [0; 512],
    };
    info.buf[..bytes.len()].copy_from_slice(&bytes);
    // SAFETY: the request expects this structure, and reads buf_size bytes of its buffer.
    Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) })
        .context("add entropy")?;
    // SAFETY: this request takes no argument.
    Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) })
        .context("reseed the generator")?;
    Ok(())
}

fn set_name(name: &str) -> io::Result<()> {
    sethostname(name)?;
    overwrite("/etc/hostname", format!("{name}\n").as_bytes())?;
    let hosts = fs::read("/etc/hosts").unwrap_or_default();
    overwrite("/etc/hosts", &hosts_with(&hosts, name))
}

/// Overwrites a file in place, without truncating it first: after a start from a template it usually has
/// this length already, and keeping its page is faster.
fn overwrite(path: &str, content: &[u8]) -> io::Result<()> {
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(false);
    let file = match open.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all("/etc")?;
            open.open(path)?
        }
        opened => opened?,
    };
    file.write_all_at(content, 0)?;
    let length = content.len() as u64;
    if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
}

/// The hosts file with the host name at 127.0.1.1, as Debian has it. Comments in it may be any bytes.
fn hosts_with(hosts: &[u8], name: &str) -> Vec<u8> {
    let lines = || hosts.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let is_of = |line: &[u8], address: &[u8]| {
        line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) == Some(address)
    };
    let mut result = Vec::new();
    if !lines().any(|line| is_of(line, b"127.0.0.1")) {
        result.extend(b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    for line in lines().filter(|line| !is_of(line, b"127.0.1.1")) {
        result.extend([line, b"\n"].concat());
    }
    result.extend(format!("127.0.1.1\t{name}\n").as_bytes());
    result
}

/// Writes a new machine id: VMs started from one template must not share it.
fn new_machine_id() -> io::Result<()> {
    // 32 hexadecimal digits and a newline: machine-id(5).
    overwrite("/etc/machine-id", format!("{}\n", random::hex::<16>()?).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_overwritten_with_contents_of_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hostname");
        let path = path.to_str().unwrap();
        for content in ["mayfly-1\n", "mayfly-2\n", "longer-name\n", "x\n"] {
            overwrite(path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
    }

    #[test]
    fn the_name_is_in_hosts_once_and_the_rest_stays() {
        let text = |hosts: &[u8], name| String::from_utf8(hosts_with(hosts, name)).unwrap();
        let first = text(b"", "one");
        assert!(first.starts_with("127.0.0.1\tlocalhost\n"));
        let second = text(first.as_bytes(), "two");
        assert_eq!(second.matches("127.0.1.1").count(), 1);
        assert!(second.ends_with("127.0.1.1\ttwo\n"));
        let kept = hosts_with(b"127.0.0.1 localhost\n\n# caf\xe9\n10.0.0.1 db", "x");
        assert_eq!(kept, b"127.0.0.1 localhost\n\n# caf\xe9\n10.0.0.1 db\n127.0.1.1\tx\n");
    }
}
