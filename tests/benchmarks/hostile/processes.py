"""Attempts at processes of root: supervisor, worker, standby, and one that is swapped."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator

from fuseswap.linux import syscalls
from tests.benchmarks.hostile.attempts import Attempt, Breach, Targets, each
from tests.benchmarks.hostile.files import opened

_SIGNALS = (
    signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV, signal.SIGQUIT, signal.SIGHUP,
    signal.SIGUSR2, signal.SIGSYS,
)  # fmt: skip
_ATTACH, _SEIZE = 16, 0x4206
_PROCESS_MADVISE, _PERF_EVENT_OPEN = "process_madvise", "perf_event_open"
_NUMBERS = {  # of calls that libc has no function for
    "x86_64": {"kcmp": 312, "migrate_pages": 256, _PROCESS_MADVISE: 440, _PERF_EVENT_OPEN: 298},
    "aarch64": {"kcmp": 272, "migrate_pages": 238, _PROCESS_MADVISE: 440, _PERF_EVENT_OPEN: 241},
}.get(os.uname().machine, {})
_READ = ("mem", "maps", "smaps", "environ", "auxv", "stack", "syscall", "pagemap", "io")
_WRITTEN = ("oom_score_adj", "clear_refs", "coredump_filter", "comm", "mem", "autogroup")
_LISTED = ("fd", "map_files", "fdinfo")
_LINKS = ("exe", "cwd", "root", "ns/mnt", "fd/0")
_COLD = 20  # MADV_COLD
_PERF_SIZE = 128
_ANY_ADDRESS = 0x10000  # nothing is there: EFAULT and ENOMEM come after the right was looked at
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _of_each(act: Callable[[int], object]) -> Callable[[Targets], None]:
    return lambda targets: each(targets.pids, act)


def _files(names: tuple[str, ...], act: Callable[[str], object]) -> Callable[[Targets], None]:
    return lambda targets: each(
        [f"/proc/{pid}/{name}" for pid in targets.pids for name in names], act
    )


def _call(name: str, *arguments: object) -> None:
    if name not in _NUMBERS:
        raise OSError(errno.ENOSYS, name)
    number = ctypes.c_long(_NUMBERS[name])
    syscalls.checked(_libc.syscall(number, *arguments), name)


def _kill(pid: int) -> None:
    each(_SIGNALS, lambda number: os.kill(pid, number))


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _kill_by_descriptor(pid: int) -> None:
    with _pidfd(pid) as fd:
        each(_SIGNALS, lambda number: signal.pidfd_send_signal(fd, number))


def _take_descriptors(pid: int) -> None:
    with _pidfd(pid) as fd:
        each(range(16), lambda number: syscalls.pidfd_getfd(fd, number))


def _enter_namespaces(pid: int) -> None:
    with _pidfd(pid) as fd:
        syscalls.checked(_libc.setns(fd, 0x20000), "setns")


def _ptrace(pid: int) -> None:
    for request in (_SEIZE, _ATTACH):
        with contextlib.suppress(PermissionError):
            syscalls.checked(_libc.ptrace(request, pid, None, None), "ptrace")
            raise Breach(str(pid))
    raise PermissionError(1, "ptrace")


@contextlib.contextmanager
def _a_right_is_a_breach(pid: int) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.EFAULT, errno.ENOMEM):
            raise Breach(str(pid)) from None
        raise


def _transfer(call: str) -> Callable[[int], None]:
    room = ctypes.create_string_buffer(64)
    ours = _Vector(ctypes.addressof(room), 64)
    theirs = _Vector(_ANY_ADDRESS, 64)

    def act(pid: int) -> None:
        with _a_right_is_a_breach(pid):
            found = getattr(_libc, call)(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
            syscalls.checked(found, call)

    return act


def _page_out(pid: int) -> None:
    theirs = _Vector(_ANY_ADDRESS, 4096)
    one, no_flags = ctypes.c_ulong(1), ctypes.c_ulong(0)
    with _pidfd(pid) as fd, _a_right_is_a_breach(pid):
        _call(_PROCESS_MADVISE, fd, ctypes.byref(theirs), one, _COLD, no_flags)


def _count_events(pid: int) -> None:
    """perf: what it does, and where its instructions are."""
    wanted = bytearray(_PERF_SIZE)
    wanted[0:8] = (0).to_bytes(4, "little") + _PERF_SIZE.to_bytes(4, "little")
    given = (ctypes.c_char * _PERF_SIZE).from_buffer(wanted)
    _call(_PERF_EVENT_OPEN, ctypes.byref(given), pid, -1, -1, ctypes.c_ulong(0))


def _write_word(path: str) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"1")


def _read_word(path: str) -> None:
    with opened(path) as fd:
        if not os.pread(fd, 64, 0):  # of a process that has ended
            raise ProcessLookupError(errno.ESRCH, "nothing is left of it")


def _see_command_lines(targets: Targets) -> None:
    """Everybody may: nothing secret may stand there."""
    for pid in targets.pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            said = file.read()
            if b"password" in said.lower() or b"secret" in said.lower():
                raise Breach(f"/proc/{pid}/cmdline")


ATTEMPTS = (
    Attempt("signals", _of_each(_kill)),
    Attempt("signals by descriptor", _of_each(_kill_by_descriptor)),
    Attempt("ptrace", _of_each(_ptrace)),
    Attempt("read memory", _of_each(_transfer("process_vm_readv"))),
    Attempt("write memory", _of_each(_transfer("process_vm_writev"))),
    Attempt("/proc/PID: read", _files(_READ, _read_word)),
    Attempt("/proc/PID: write", _files(_WRITTEN, _write_word)),
    Attempt("/proc/PID: list", _files(_LISTED, os.listdir)),
    Attempt("/proc/PID: links", _files(_LINKS, os.readlink)),
    Attempt("take descriptors", _of_each(_take_descriptors)),
    Attempt("enter namespaces", _of_each(_enter_namespaces)),
    Attempt("page out", _of_each(_page_out)),
    Attempt("perf events", _of_each(_count_events)),
    Attempt("kcmp", _of_each(lambda pid: _call("kcmp", os.getpid(), pid, 2, 0, 0))),
    Attempt("move pages", _of_each(lambda pid: _call("migrate_pages", pid, 0, None, None))),
    Attempt("priority", _of_each(lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19))),
    Attempt("processors", _of_each(lambda pid: os.sched_setaffinity(pid, {0}))),
    Attempt(
        "scheduling",
        _of_each(lambda pid: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))),
    ),
    Attempt("limits", _of_each(lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)))),
    Attempt("command lines", _see_command_lines, may=True),
)
