"""The few system calls that Python's standard library does not offer.

Thin: one function a call, `OSError` with errno and the call's name on failure,
no policy.  Constants are those of the Linux UAPI headers.  The lowest layer:
imported by the cache (hole punching) and by ``host/`` (locking, mounting).
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10

MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MNT_DETACH = 2

PR_SET_IO_FLUSHER = 57
PR_GET_IO_FLUSHER = 58

_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.mlockall.argtypes = (ctypes.c_int,)
_libc.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4
_libc.mount.argtypes = (ctypes.c_char_p,) * 3 + (ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, call: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2); offset and length in bytes."""
    _check(_libc.fallocate(fd, mode, offset, length), "fallocate")


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give the bytes back to the system; they read as zeros afterwards."""
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)


def mlockall(flags: int) -> None:
    """mlockall(2) with the MCL_* flags."""
    _check(_libc.mlockall(flags), "mlockall")


def set_io_flusher() -> None:
    """PR_SET_IO_FLUSHER: allocations of this task and its children may not recurse into I/O.

    Needs CAP_SYS_RESOURCE, and explicit zeros in the unused arguments.
    """
    _check(_libc.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0), "prctl(PR_SET_IO_FLUSHER)")


def get_io_flusher() -> bool:
    """Read the IO_FLUSHER state of this task back."""
    return _check(_libc.prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), "prctl(PR_GET_IO_FLUSHER)") == 1


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2)."""
    encoded = (source.encode(), os.fsencode(target), fstype.encode())
    _check(_libc.mount(*encoded, flags, data.encode()), f"mount {fstype} on {target}")


def umount(target: str, *, lazy: bool = False) -> None:
    """umount2(2), with MNT_DETACH where ``lazy``."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH if lazy else 0), f"umount {target}")


_SYS_PIDFD_GETFD = 438  # the same number on every architecture
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_uint)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2), Linux 5.6: our own descriptor for what another process has as ``fd``."""
    return _check(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd")


# -- System V shared memory: unevictable memory where tmpfs has no ``noswap`` (before 6.4) ----

_IPC_CREAT = 0o1000
_IPC_RMID = 0
_SHM_LOCK = 11
_SHM_NORESERVE = 0o10000

_libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


def locked_shm(size_bytes: int) -> int:
    """A new, zeroed, SHM_LOCKed segment; returns a descriptor of the file behind it.

    The segment is attached to this process (untouched) and marked for removal, so its
    memory lives, and stays unevictable, exactly as long as this process.  The descriptor
    comes from ``/proc/self/map_files`` and needs CAP_SYS_ADMIN.
    """
    segment = _check(_libc.shmget(0, size_bytes, _IPC_CREAT | _SHM_NORESERVE | 0o600), "shmget")
    try:
        address = _libc.shmat(segment, None, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "shmat failed")
        _check(_libc.shmctl(segment, _SHM_LOCK, None), "shmctl(SHM_LOCK)")
    finally:
        _check(_libc.shmctl(segment, _IPC_RMID, None), "shmctl(IPC_RMID)")
    page_end = address + -(-size_bytes // 4096) * 4096
    return os.open(f"/proc/self/map_files/{address:x}-{page_end:x}", os.O_RDWR | os.O_CLOEXEC)
