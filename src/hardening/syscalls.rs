//! seccomp: the system calls that the proxy makes, and no others.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyscallsError {
    /// It cannot be made: a machine that the crate does not know.
    #[error("{0}")]
    Make(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("{0}")]
    Apply(#[from] seccompiler::Error),
}

/// Always allowed. Nothing here starts a program, opens a way to the kernel's inner parts, or acts
/// on another process.
const ALLOWED: &[c_long] = &[
    // Bytes in and out, the hot path first: the filter is a chain.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_splice,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_create1,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_close,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    // Sockets; which families, see below.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Files, within what Landlock allows.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getcwd,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Memory and threads.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // Signals to itself, time, randomness, and questions about itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_tkill,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The older forms of the same calls, which newer machines never had.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_epoll_wait,
    libc::SYS_getdents,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
/// 38 is renameat (asm-generic/unistd.h), which the libc crate does not name for glibc there.
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[libc::SYS_accept, 38];

/// Local sockets, IP, and what getaddrinfo asks about this host's addresses.
const FAMILIES: [i32; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK];

/// What is asked of sockets and terminals: `FIONBIO`, `FIONREAD`, `SIOCOUTQ`, `FIOCLEX`, `TCGETS`,
/// `TIOCGWINSZ` (asm-generic/ioctls.h; the type of the constants in libc differs between C libraries).
const IOCTLS: [u64; 6] = [0x5421, 0x541b, 0x5411, 0x5451, 0x5401, 0x5413];

/// Names of threads and of mappings, and what the kernel told the program at its start
/// (`PR_GET_AUXV`, linux/prctl.h).
const PRCTLS: [i32; 4] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, 0x4155_5856];

/// Restricts the calling thread.
pub(super) fn restrict() -> Result<(), SyscallsError> {
    let program: BpfProgram = filter()?.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn filter() -> Result<SeccompFilter, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let any_of = |argument: u8, values: &[u64]| {
        values.iter().map(|value| rule(argument, Op::Eq, *value)).collect::<Result<Vec<_>, _>>()
    };
    let words =
        |values: &[i32]| values.iter().map(|v| u64::from(v.cast_unsigned())).collect::<Vec<_>>();
    rules.insert(libc::SYS_socket, any_of(0, &words(&FAMILIES))?);
    rules.insert(libc::SYS_prctl, any_of(0, &words(&PRCTLS))?);
    rules.insert(libc::SYS_ioctl, any_of(1, &IOCTLS)?);
    // Threads, but no processes. clone3 keeps its flags in memory, where no filter can look: it is
    // left out, and C libraries fall back to clone.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    rules.insert(libc::SYS_clone, vec![rule(0, Op::MaskedEq(thread), thread)?]);
    // Signals within this process alone.
    rules.insert(libc::SYS_tgkill, any_of(0, &[u64::from(std::process::id())])?);
    let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        // glibc maps the code of the modules that look names up; the static program maps none.
        let data = if cfg!(target_env = "gnu") {
            Vec::new()
        } else {
            vec![rule(2, Op::MaskedEq(executable), 0)?]
        };
        rules.insert(call, data);
    }
    let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)
}

/// A rule on the lower half of one argument.
fn rule(argument: u8, op: Op, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, Width::Dword, op, value)?])
}
