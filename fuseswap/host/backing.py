"""The backing file: opened once, by the supervisor, so that it outlives a worker.

Exclusively locked, mode 0600, preallocated (no block is allocated under memory
pressure) and O_DIRECT (nothing is kept a second time in the page cache).  One that does not
begin with zeros is refused: it may be somebody's.  What is written to it, ``tiers/file.py``
and ``inplace.py`` know.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from fuseswap.errors import HostError
from fuseswap.units import MIB, format_size

MIN_BYTES = 8 * MIB


def planned_bytes(path: str, default_bytes: int) -> int:
    """How large the backing will be: what is there already, or ``default_bytes`` of a new file.

    Raises `HostError` where that is less than `MIN_BYTES`.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
    except FileNotFoundError:
        size = 0
    except OSError as exc:
        raise HostError(f"cannot open backing file {path}: {exc.strerror}") from exc
    size = size or default_bytes
    if size < MIN_BYTES:
        raise HostError(f"backing file {path} is smaller than {format_size(MIN_BYTES)}")
    return size


def open_backing(path: str, size_bytes: int) -> int:
    """Open, lock and preallocate the backing file; returns its descriptor.

    A block device is used in its whole size; a regular file is made, or grown, to
    ``size_bytes``.  Raises `HostError` in one line; a file that was made is removed again.
    """
    existed = os.path.exists(path)
    try:
        mode = os.stat(path).st_mode if existed else 0
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            _refuse_data(path)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT
        # O_EXCL alone, on a block device: nobody may have it mounted or in use.
        fd = os.open(path, flags | (os.O_EXCL if stat.S_ISBLK(mode) else os.O_CREAT), 0o600)
    except OSError as exc:
        raise HostError(f"cannot open backing file {path}: {exc.strerror}") from exc
    try:
        _claim(fd, path, size_bytes)
    except BaseException:
        os.close(fd)
        if not existed:
            os.unlink(path)
        raise
    return fd


def close_backing(path: str, *, made: bool) -> None:
    """The device is gone, and so is the sense of what is in the file.

    A file that `open_backing` made is removed; another gets its first page zeroed, which
    is how `open_backing` knows it again.
    """
    if made:
        os.unlink(path)
        return
    with open(path, "r+b", buffering=0) as file:
        file.write(bytes(4096))


def _refuse_data(path: str) -> None:
    """Raise `HostError` where ``path`` holds something that may be somebody's."""
    with open(path, "rb", buffering=0) as file:
        if any(file.read(4096)):
            raise HostError(
                f"{path} holds data; if nobody needs it: dd if=/dev/zero of={path} "
                "bs=4096 count=1 conv=notrunc"
            )


def _claim(fd: int, path: str, size_bytes: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise HostError(f"backing file {path} is in use by another device") from None
    mode = os.fstat(fd).st_mode
    if stat.S_ISBLK(mode):
        if os.lseek(fd, 0, os.SEEK_END) < MIN_BYTES:
            raise HostError(f"{path} is smaller than {format_size(MIN_BYTES)}")
        return
    if not stat.S_ISREG(mode):
        raise HostError(f"{path} is neither a regular file nor a block device")
    os.fchmod(fd, 0o600)
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as exc:
        reason = "no room for" if exc.errno == errno.ENOSPC else f"{exc.strerror}:"
        raise HostError(f"{reason} a backing file of {format_size(size_bytes)} at {path}") from exc
