//! What a helper that was taken over could do.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use mayfly::host::confinement::confine_to_sockets;
use nix::libc::{self, c_long};

use super::helper::Helper;

/// Calls that a helper has no use for, with their arguments.
const CALLS: &[(&str, c_long, [c_long; 3])] = &[
    ("open", libc::SYS_openat, [-100, 0, 0]),
    ("openat2", libc::SYS_openat2, [-100, 0, 0]),
    ("execve", libc::SYS_execve, [0, 0, 0]),
    ("clone", libc::SYS_clone, [0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0, 0, 0]),
    ("fork", libc::SYS_fork, [0, 0, 0]),
    ("socket(AF_UNIX)", libc::SYS_socket, [libc::AF_UNIX as c_long, 1, 0]),
    ("socket(AF_NETLINK)", libc::SYS_socket, [libc::AF_NETLINK as c_long, 3, 0]),
    ("socket(AF_PACKET)", libc::SYS_socket, [libc::AF_PACKET as c_long, 3, 0]),
    ("bind", libc::SYS_bind, [-1, 0, 0]),
    ("listen", libc::SYS_listen, [-1, 0, 0]),
    ("sendmsg", libc::SYS_sendmsg, [-1, 0, 0]),
    ("recvmsg", libc::SYS_recvmsg, [-1, 0, 0]),
    ("mprotect", libc::SYS_mprotect, [0, 0, 0]),
    ("mmap of code", libc::SYS_mmap, [0, 4096, libc::PROT_EXEC as c_long]),
    ("ptrace", libc::SYS_ptrace, [0, 0, 0]),
    ("kill", libc::SYS_kill, [0, 0, 0]),
    ("unlink", libc::SYS_unlinkat, [-1, 0, 0]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0]),
    ("setuid", libc::SYS_setuid, [0, 0, 0]),
    ("prctl", libc::SYS_prctl, [0, 0, 0]),
    ("ioctl", libc::SYS_ioctl, [-1, 0, 0]),
    ("x32 read", 0x4000_0000, [-1, 0, 0]),
];

/// Makes one of the calls, confined as a helper is. Part of the test below.
#[test]
#[ignore = "the test below runs it in a process of its own"]
fn attempt() {
    let place: usize = std::env::var("MAYFLY_TEST_CALL").unwrap().parse().unwrap();
    confine_to_sockets().unwrap();
    if let Some((_, number, [first, second, third])) = CALLS.get(place) {
        // SAFETY: the kernel kills this process instead of making the call.
        unsafe { libc::syscall(*number, *first, *second, *third) };
    } else {
        // SAFETY: it makes a socket, which ends with this process.
        unsafe { libc::syscall(libc::SYS_socket, libc::AF_INET6, libc::SOCK_STREAM, 0) };
    }
    // SAFETY: ends this process.
    unsafe { libc::syscall(libc::SYS_exit_group, 77) };
}

#[test]
fn any_other_system_call_kills_it() {
    let tests = std::env::current_exe().unwrap();
    let name = "network::confinement::attempt";
    for place in 0..=CALLS.len() {
        let status = Command::new(&tests)
            .args(["--exact", name, "--ignored", "--test-threads=1"])
            .env("MAYFLY_TEST_CALL", place.to_string())
            .output()
            .unwrap()
            .status;
        match CALLS.get(place) {
            Some((name, ..)) => assert_eq!(status.signal(), Some(libc::SIGSYS), "{name}: {status}"),
            None => assert_eq!(status.code(), Some(77), "socket(AF_INET6): {status}"),
        }
    }
}

#[test]
fn it_can_gain_nothing_and_its_memory_is_its_own() {
    let mut guest = Helper::with_rules(&[]);
    let handle = guest.datagrams(5000);
    guest.send(handle, ([1, 1, 1, 1], 1), b"x");
    guest.until(|guest| guest.line.unreachable.pop());
    let status = guest.status();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("CapEff"), "0000000000000000");
    assert_eq!(field("CapPrm"), "0000000000000000");
    assert!(!field("Uid").starts_with("0\t"), "{status}");
    assert!(field("Threads") == "1");
}
