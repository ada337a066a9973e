//! Filters of system calls. A program keeps its filter when it executes another.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};
use serde::{Deserialize, Serialize};

/// Which system calls a program cannot make. Except for [`SyscallFilter::Network`], they fail with EPERM, so that a
/// program goes on if it only tried whether the kernel has them, and the only sockets are those of `AF_UNIX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyscallFilter {
    /// For a VMM. It may be stacked on the VMM's own, which allows less but begins later.
    Vmm,
    /// For Firecracker's jailer, which mounts and then becomes the VMM.
    Jailer,
    /// For a program that parses files from strangers. It can make no socket at all.
    Parser,
    /// For the process that connects a VM to the network, which knows every call it makes: others kill it. It makes
    /// sockets of IPv4 and IPv6 only.
    Network,
}

/// What [`SyscallFilter::Network`] allows with any arguments.
const NETWORK: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    // Where the kernel cannot serve it without a call.
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    // The allocator.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    // Signals, and the end of the process.
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit_group,
];

/// What none of them uses.
const UNUSED: &[i64] = &[
    // A ring makes sockets without the calls that are filtered.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Memory and files of other processes of the same user.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    // Parts of the kernel with many faults in the past. Docker refuses them too.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

/// Namespaces and mounts, which only the jailer uses.
const NAMESPACES: &[i64] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
];

impl SyscallFilter {
    /// Filters the calls of this thread from now on, and of every program that it executes. Also sets
    /// no_new_privs, without which an ordinary user may not filter.
    ///
    /// # Errors
    /// The kernel has no seccomp.
    pub fn apply(self) -> Result<()> {
        let program = self.compile().context("cannot make a filter of system calls")?;
        apply_filter(&program).context("cannot filter system calls")
    }

    fn compile(self) -> Result<BpfProgram, seccompiler::BackendError> {
        let refused = match self {
            SyscallFilter::Network => return compile_network(),
            SyscallFilter::Vmm | SyscallFilter::Parser => [UNUSED, NAMESPACES].concat(),
            SyscallFilter::Jailer => UNUSED.to_vec(),
        };
        // A call without rules is refused whatever its arguments.
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            refused.into_iter().map(|number| (number, Vec::new())).collect();
        for number in [libc::SYS_socket, libc::SYS_socketpair] {
            let family = SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Ne,
                libc::AF_UNIX as u64,
            )?;
            let others = vec![SeccompRule::new(vec![family])?];
            rules.insert(number, if self == SyscallFilter::Parser { Vec::new() } else { others });
        }
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        // The program it is compiled to kills a process that makes a call of another architecture, such as i386.
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?;
        let mut program = refuse_x32().to_vec();
        program.extend(BpfProgram::try_from(filter)?);
        Ok(program)
    }
}

/// The filter of [`SyscallFilter::Network`]. Calls of another architecture and x32 calls are not on its list either.
fn compile_network() -> Result<BpfProgram, seccompiler::BackendError> {
    let argument = |number: u8, operator, value: i32| {
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value as u64)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        NETWORK.iter().map(|number| (*number, Vec::new())).collect();
    let families = [libc::AF_INET, libc::AF_INET6];
    let families = families.map(|family| argument(0, SeccompCmpOp::Eq, family));
    rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
    // Debug builds look whether what they close is open.
    rules.insert(libc::SYS_fcntl, vec![argument(1, SeccompCmpOp::Eq, libc::F_GETFD)?]);
    let is_data = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    rules.insert(libc::SYS_mmap, vec![argument(2, is_data, 0)?]);
    let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, kill, allow, TargetArch::x86_64)?.try_into()
}

/// The first number of the x32 calls (`__X32_SYSCALL_BIT` of Linux): the same calls again, with 32-bit pointers. They
/// count as calls of x86-64.
const X32: u32 = 0x4000_0000;

/// Instructions that refuse all x32 calls, which seccompiler has no rule for.
fn refuse_x32() -> [sock_filter; 3] {
    let instruction = |code: u32, jump_false: u8, operand: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_false,
        k: operand,
    };
    let number_offset = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, number_offset),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ]
}
