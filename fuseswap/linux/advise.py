"""Push another process's pages out to swap, and bring them back.

Out: process_madvise with MADV_PAGEOUT, which reclaims what it is told, whatever the pressure (Linux
5.10).  Back: MADV_WILLNEED has the kernel read ahead, and a read of a byte of each page through
process_vm_readv maps it.  Both need CAP_SYS_PTRACE, and the former CAP_SYS_NICE.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence

from fuseswap.linux.pagemap import in_swap_at
from fuseswap.linux.syscalls import checked
from fuseswap.units import MIB, PAGE_SIZE

_SYS_PROCESS_MADVISE = 440  # the same number on every architecture
_MADV_WILLNEED = 3
_MADV_PAGEOUT = 21
_OUT_AT_ONCE = 4 * MIB
_BACK_AT_ONCE = 512  # pages; the kernel takes 1024 ranges in a call
_NOT_THIS_ONE = (errno.EINVAL, errno.ENOMEM)  # it is locked, or gone meanwhile

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.process_vm_readv.restype = ctypes.c_ssize_t


class _Range(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("start", ctypes.c_void_p), ("length", ctypes.c_size_t))


def push_out(pid: int) -> Iterator[int]:
    """Push anonymous memory of process ``pid`` out; yields the bytes it was asked for each time.

    Ends with the process.  Raises `PermissionError`, and `OSError` before Linux 5.10.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for start, end in _anonymous(pid):
            for at in range(start, end, _OUT_AT_ONCE):
                length = min(_OUT_AT_ONCE, end - at)
                if not _advise(pidfd, [(at, length)], _MADV_PAGEOUT):
                    return
                yield length
    finally:
        os.close(pidfd)


def bring_back(pid: int) -> Iterator[int]:
    """Bring what process ``pid`` has in swap back; yields how many pages, each time.

    Ends with the process.  Raises `PermissionError`.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for pages in in_swap_at(pid, _BACK_AT_ONCE):
            ranges = [(page * PAGE_SIZE, PAGE_SIZE) for page in pages]
            if not _advise(pidfd, ranges, _MADV_WILLNEED):
                return
            _touch(pid, ranges)
            yield len(pages)
    finally:
        os.close(pidfd)


def _advise(pidfd: int, ranges: Sequence[tuple[int, int]], advice: int) -> bool:
    """False where the process has ended."""
    vector = (_Range * len(ranges))(*(_Range(*one) for one in ranges))
    result = _libc.syscall(
        ctypes.c_long(_SYS_PROCESS_MADVISE),
        ctypes.c_int(pidfd),
        vector,
        ctypes.c_ulong(len(ranges)),
        ctypes.c_int(advice),
        ctypes.c_uint(0),
    )
    if result < 0 and ctypes.get_errno() == errno.ESRCH:
        return False
    if result < 0 and ctypes.get_errno() in _NOT_THIS_ONE:
        return True
    checked(result, "process_madvise")
    return True


def _touch(pid: int, ranges: Sequence[tuple[int, int]]) -> None:
    """Read a byte of each; one that is gone meanwhile ends it."""
    found = ctypes.create_string_buffer(len(ranges))
    here = _Range(ctypes.addressof(found), len(ranges))
    there = (_Range * len(ranges))(*(_Range(start, 1) for start, _ in ranges))
    _libc.process_vm_readv(
        ctypes.c_int(pid),
        ctypes.byref(here),
        ctypes.c_ulong(1),
        there,
        ctypes.c_ulong(len(ranges)),
        ctypes.c_ulong(0),
    )


def _anonymous(pid: int) -> Iterator[tuple[int, int]]:
    """Start and end of what it has mapped privately, without a file."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            lines = maps.readlines()
    except (FileNotFoundError, ProcessLookupError):
        return
    for line in lines:
        span, modes, _, _, inode, *_ = line.split()
        if modes[1:] != b"---p" and modes[3:4] == b"p" and inode == b"0":
            start, _, end = span.partition(b"-")
            if len(end) < 16:  # not the vsyscall page
                yield int(start, 16), int(end, 16)
