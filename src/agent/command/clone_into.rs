//! A child that begins its life in a cgroup. One that moves there later makes the kernel stop every fork in the system
//! for some milliseconds. The C library has no function for this.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};
use nix::unistd::Pid;

/// `CLONE_INTO_CGROUP` of linux/sched.h.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// As `clone` with `CLONE_VM` and `CLONE_VFORK`: calls `run` with `argument` in a child that shares this program's
/// memory, and returns when that has executed a program or ended. The child is in the cgroup of this directory.
///
/// # Errors
/// The kernel's; see [`is_missing`].
///
/// # Safety
/// `run` must not return. It may only do what is safe in a child that shares memory, with this `argument`, and on
/// this stack.
pub unsafe fn cgroup(
    cgroup: &OwnedFd,
    stack: &mut [MaybeUninit<u128>],
    run: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> nix::Result<Pid> {
    // SAFETY: zeros are valid for these numbers.
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | INTO_CGROUP;
    wanted.exit_signal = libc::SIGCHLD as u64;
    wanted.stack = stack.as_mut_ptr() as u64;
    wanted.stack_size = size_of_val(stack) as u64;
    wanted.cgroup = cgroup.as_raw_fd() as u64;
    let result: i64;
    // SAFETY: in this process it is a system call, which overwrites rax, rcx and r11 alone. The child has a stack of
    // its own, whose end is aligned to 16 bytes; it calls `run`, and never leaves this block.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const wanted,
            in("rsi") size_of_val(&wanted),
            in("r8") argument,
            in("r9") run,
            out("rcx") _,
            out("r11") _,
        );
    }
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        Ok(error) => Err(Errno::from_raw(-error)),
        Err(_) => Err(Errno::EINVAL),
    }
}

/// Whether the kernel cannot do this: Linux before 5.7.
pub fn is_missing(error: Errno) -> bool {
    matches!(error, Errno::ENOSYS | Errno::EINVAL | Errno::E2BIG)
}
