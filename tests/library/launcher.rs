//! The launcher that becomes a VMM, with orders of these tests.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use mayfly::host::launcher::{BindAccess, BindMount, LaunchBounds, LaunchProgram};
use mayfly::host::seccomp::SyscallFilter;
use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::unistd::geteuid;

use crate::support::skip::skipped;

/// The output of a line of shell that the launcher runs.
fn becomes(line: &str, bounds: LaunchBounds) -> String {
    let program = LaunchProgram {
        path: "/bin/sh".into(),
        args: vec!["-c".into(), line.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/".into(),
        user: None,
        files: Vec::new(),
        bounds,
    };
    let mut order = serde_json::to_vec(&program).unwrap();
    order.push(b'\n');
    let output =
        Command::cargo_bin("mayfly").unwrap().arg("__launcher").write_stdin(order).unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn files_are_limited_without_killing_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let bounds = LaunchBounds { file_size: Some(4096), ..LaunchBounds::default() };
    let line = format!(
        "dd if=/dev/zero of={0} bs=1000 count=9 2>&1 | grep -o 'File too large'; stat -c %s {0}",
        file.display()
    );
    assert_eq!(becomes(&line, bounds), "File too large\n4096\n");
}

#[test]
fn open_files_are_limited() {
    let bounds = LaunchBounds { open_files: Some(77), ..LaunchBounds::default() };
    assert_eq!(becomes("ulimit -n; ulimit -Hn; ulimit -c", bounds), "77\n77\n0\n");
}

#[test]
fn only_that_signal_is_blocked() {
    let blocked = |bounds| becomes("grep SigBlk /proc/$$/status | cut -f 2", bounds);
    assert_eq!(blocked(LaunchBounds::default()), "0000000000000000\n");
    let bounds = LaunchBounds { file_size: Some(4096), ..LaunchBounds::default() };
    assert_eq!(blocked(bounds), "0000000001000000\n");
}

#[test]
fn mounts_are_private() {
    if !geteuid().is_root() {
        return skipped("only root can make mounts");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let bind = |name: &str, access| BindMount {
        file: file(name, name),
        at: file(&format!("{name}-place"), "empty"),
        access,
    };
    let binds = vec![bind("read", BindAccess::Read), bind("write", BindAccess::Write)];
    let read = binds[0].at.display().to_string();
    let write = binds[1].at.display().to_string();
    let bounds = LaunchBounds { no_network: true, binds, ..LaunchBounds::default() };
    let line = format!(
        "cat {read} {write}; echo; (echo x > {read}) 2>&1 | grep -o 'Read-only file system'; \
         echo changed > {write}; ls /sys/class/net > /dev/null; grep -c : /proc/net/dev; \
         grep {write} /proc/mounts | grep -o nosuid,nodev,noexec"
    );
    let said = becomes(&line, bounds);
    assert_eq!(said, "readwrite\nRead-only file system\n1\nnosuid,nodev,noexec\n");
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!((text("read").as_str(), text("write").as_str()), ("read", "changed\n"));
    assert_eq!((text("read-place").as_str(), text("write-place").as_str()), ("empty", "empty"));
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
}

/// What a program of the launcher finds when it tries [`attempts`].
fn attempted(filter: SyscallFilter) -> String {
    let bounds = LaunchBounds { syscalls: Some(filter), ..LaunchBounds::default() };
    let tests = std::env::current_exe().unwrap();
    let line = format!("{} --exact launcher::attempts --ignored --nocapture", tests.display());
    let said = becomes(&format!("{line} | grep ^attempt: | cut -d ' ' -f 2-"), bounds);
    assert!(said.contains("socket(AF_UNIX): made"), "{said}");
    said
}

/// Makes system calls that a VMM has no use for, with arguments that the kernel would accept or refuse with another
/// error than EPERM. Part of the tests below, which have the launcher execute it.
#[test]
#[ignore = "the tests below run it under filters"]
fn attempts() {
    let report = |what: &str, result: c_long| {
        let outcome =
            Errno::result(result).map_or_else(|errno| errno.to_string(), |_| "made".into());
        println!("attempt: {what}: {outcome}");
    };
    let this = c_long::from(std::process::id().cast_signed());
    // SAFETY: the kernel writes only to the pair of descriptors; other pointers are null. This process does
    // nothing after the calls.
    unsafe {
        for (name, family) in [
            ("AF_UNIX", libc::AF_UNIX),
            ("AF_INET", libc::AF_INET),
            ("AF_INET6", libc::AF_INET6),
            ("AF_NETLINK", libc::AF_NETLINK),
            ("AF_PACKET", libc::AF_PACKET),
            ("AF_VSOCK", libc::AF_VSOCK),
            ("AF_ALG", libc::AF_ALG),
            ("AF_BLUETOOTH", libc::AF_BLUETOOTH),
        ] {
            let kind = libc::SOCK_DGRAM;
            report(&format!("socket({name})"), libc::syscall(libc::SYS_socket, family, kind, 0));
            let mut pair = [0; 2];
            let made = libc::syscall(libc::SYS_socketpair, family, kind, 0, pair.as_mut_ptr());
            report(&format!("socketpair({name})"), made);
        }
        // The number of socket(2) for programs with 32-bit pointers.
        let inet = libc::syscall(0x4000_0000 | libc::SYS_socket, libc::AF_INET, 1, 0);
        report("x32 socket(AF_INET)", inet);
        for (name, number) in [
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("io_uring_enter", libc::SYS_io_uring_enter),
            ("io_uring_register", libc::SYS_io_uring_register),
            ("pidfd_getfd", libc::SYS_pidfd_getfd),
            ("bpf", libc::SYS_bpf),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("keyctl", libc::SYS_keyctl),
            ("add_key", libc::SYS_add_key),
            ("request_key", libc::SYS_request_key),
        ] {
            report(name, libc::syscall(number, -1, 0, -1, -1, 0));
        }
        report("process_vm_readv", libc::syscall(libc::SYS_process_vm_readv, this, 0, 0, 0, 0, 0));
        report(
            "process_vm_writev",
            libc::syscall(libc::SYS_process_vm_writev, this, 0, 0, 0, 0, 0),
        );
        report("ptrace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0));
        report("setns", libc::syscall(libc::SYS_setns, -1, 0));
        report("fsopen", libc::syscall(libc::SYS_fsopen, 0, 0));
        report("unshare", libc::syscall(libc::SYS_unshare, 0));
    }
}

#[test]
fn a_vmm_makes_no_sockets_but_local_ones_and_reaches_no_other_process() {
    let said = attempted(SyscallFilter::Vmm);
    let (made, refused): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.ends_with(": made"));
    assert_eq!(made, ["socket(AF_UNIX): made", "socketpair(AF_UNIX): made"]);
    assert_eq!(refused.len(), 31, "{said}");
    for line in refused {
        assert!(line.ends_with("EPERM: Operation not permitted"), "{line}");
    }
}

#[test]
fn a_jailer_may_make_namespaces_but_no_sockets_either() {
    let said = attempted(SyscallFilter::Jailer);
    let made: Vec<&str> = said.lines().filter(|line| line.ends_with(": made")).collect();
    assert_eq!(made, ["socket(AF_UNIX): made", "socketpair(AF_UNIX): made", "unshare: made"]);
    assert!(said.contains("setns: EBADF"), "{said}");
    for line in said.lines().filter(|line| !line.ends_with(": made")) {
        let is_mount = line.starts_with("setns") || line.starts_with("fsopen");
        assert!(is_mount || line.ends_with("EPERM: Operation not permitted"), "{line}");
    }
}

/// Makes a system call as a 32-bit program does. Part of the test below.
#[test]
#[ignore = "the test below runs it under a filter"]
fn attempt_of_a_32_bit_program() {
    // SAFETY: getpid(2) has no arguments and changes only the register of its result.
    unsafe { std::arch::asm!("int 0x80", inlateout("eax") 20 => _) };
}

#[test]
fn system_calls_of_32_bit_programs_are_no_way_around_a_filter() {
    let bounds = LaunchBounds { syscalls: Some(SyscallFilter::Vmm), ..LaunchBounds::default() };
    let tests = std::env::current_exe().unwrap();
    let name = "launcher::attempt_of_a_32_bit_program";
    let line = format!("{} --exact {name} --ignored > /dev/null 2>&1; echo $?", tests.display());
    let code = becomes(&line, bounds);
    // SIGSYS, or SIGSEGV from a kernel without such calls.
    assert!(["159\n", "139\n"].contains(&code.as_str()), "{code}");
}

#[test]
fn a_truncated_order_is_not_executed() {
    let mut launcher = Command::cargo_bin("mayfly").unwrap();
    let output = launcher.arg("__launcher").write_stdin("{\"path\":\"/bin/echo\"").unwrap();
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}
