"""System calls that a worker may make once it is prepared, by what they are for.

Traced (strace) were writeback, scrub, recompression, a tier that comes, and a restart.  The rest
is margin: what libc, Python, trio or libfuse choose elsewhere.  A name that this machine does not
know does no harm.

A worker may not start programs or processes, connect, listen, mount, enable swap, or trace.  Nor
may it load code into the kernel, or change users, namespaces and the clock.
"""

from __future__ import annotations

ALLOWED: dict[str, tuple[str, ...]] = {
    "files that are open, the journal of a log, state.json": (
        "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
        "pwritev2", "lseek", "fallocate", "ftruncate", "fsync", "fdatasync", "sync_file_range",
        "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64", "ioctl", "flock",
        "fstat", "fstatfs", "statfs", "stat", "lstat", "statx", "newfstatat", "access", "faccessat",
        "faccessat2", "open", "openat", "openat2", "getdents", "getdents64", "readlink",
        "readlinkat", "getcwd", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir",
        "mkdirat", "rmdir", "fchmod", "fchmodat", "chmod", "umask", "fadvise64", "readahead",
        "copy_file_range", "memfd_create",
    ),
    "libfuse, of the pyfuse3 transport": ("splice", "vmsplice", "tee", "sendfile"),
    "direct I/O of tiers": (
        "io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy",
    ),
    "memory: arena, heap, stacks, the feeder": (
        "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "process_madvise", "msync",
        "mincore", "brk", "mlock", "mlock2", "munlock", "mlockall", "munlockall", "membarrier",
        "get_mempolicy", "pkey_alloc", "pkey_free", "pkey_mprotect",
    ),
    "threads": (
        "futex", "futex_waitv", "futex_wait", "futex_wake", "set_robust_list", "get_robust_list",
        "rseq", "gettid", "set_tid_address", "exit", "exit_group", "arch_prctl",
        "set_thread_area",
    ),
    "priority": (
        "sched_yield", "sched_setscheduler", "sched_getscheduler", "sched_setparam",
        "sched_getparam", "sched_setattr", "sched_getattr", "sched_getaffinity",
        "sched_setaffinity", "sched_get_priority_min", "sched_get_priority_max", "getpriority",
        "setpriority", "ioprio_get", "ioprio_set", "getcpu",
    ),
    "signals, and the end of this process": (
        "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait",
        "rt_sigsuspend", "sigaltstack", "sigreturn", "restart_syscall", "kill", "tkill", "tgkill",
        "pause", "wait4", "waitid",
    ),
    "waiting: trio, poll, events, pipes": (
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
        "poll", "ppoll", "select", "_newselect", "pselect6", "eventfd", "eventfd2", "pipe", "pipe2",
        "timerfd_create", "timerfd_settime", "timerfd_gettime", "signalfd", "signalfd4",
    ),
    "what is said over sockets that were handed over": (
        "socketpair", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "send",
        "recv", "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername",
    ),
    "time": (
        "clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep",
        "clock_nanosleep_time64", "nanosleep", "gettimeofday", "time", "times", "getitimer",
        "setitimer", "alarm", "ppoll_time64", "pselect6_time64", "futex_time64",
    ),
    "about this process and machine": (
        "getpid", "getppid", "getpgrp", "getpgid", "getsid", "getuid", "geteuid", "getgid",
        "getegid", "getresuid", "getresgid", "getgroups", "getrusage", "getrlimit", "setrlimit",
        "prlimit64", "prctl", "capget", "sysinfo", "uname", "getrandom", "pidfd_open",
        "pidfd_send_signal",
    ),
}  # fmt: skip
