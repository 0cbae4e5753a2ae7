"""The backing file: opened once, by the supervisor, so that it outlives a worker.

Exclusively locked, mode 0600, and O_DIRECT (nothing is kept a second time in the page cache).
Preallocated, and written once from end to end.  ext4 and xfs note of each extent whether it was
written, and change that under a lock of the file.  A thread of the kernel that has it waits for
memory, that is, for swap, and a read of ours for the lock.  In a guest that was the end.  On btrfs
one that is made is written in place (``linux/file_flags.py``).  No other user can change or
exchange it (``linux/trusted_file.py``), nor has it open.  Taken is one
whose ends are zeros, or bear the claim of a device of this machine that did not go down
(``tiers/ownership_label.py``).  So is noise of dm-crypt (``linux/crypt_device.py``).  Any other is
refused: its data may be wanted.
``tiers/file_tier.py`` and ``raw_file.py`` know what is written between the ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shlex
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux import aio, crypt_device, file_flags, syscalls, trusted_file
from fuseswap.sizes import format_size
from fuseswap.tiers.ownership_label import (
    BOTH_ENDS_BYTES,
    END_BYTES,
    FIRST_PAGE_AT,
    Claim,
    is_zero,
    room_bytes,
)
from fuseswap.units import MIB, PAGE_SIZE

MIN_BYTES = 8 * MIB + BOTH_ENDS_BYTES
_ZEROS_BYTES = 4 * MIB
_MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Backing:
    """An open one.  ``made``: by `up`; ``former``: the device that left it without going down."""

    fd: int
    made: bool
    former: str | None


def planned_bytes(path: str, default_bytes: int) -> int:
    """How large the backing will be: the file as it is, or a new file for ``default_bytes``.

    Raises `HostError` where that is less than `MIN_BYTES`.
    """
    size = 0
    try:
        if trusted_file.status_of(path):
            fd = trusted_file.open_file(path, os.O_RDONLY)
            size = os.lseek(fd, 0, os.SEEK_END)
            os.close(fd)
    except FileNotFoundError:  # the directory; `open_backing` says so
        pass
    except OSError as exc:
        raise HostError(f"cannot open backing file {path}: {exc.strerror}") from exc
    size = size or default_bytes + BOTH_ENDS_BYTES
    if size < MIN_BYTES:
        raise HostError(f"backing file {path} is smaller than {format_size(MIN_BYTES)}")
    return size


def open_backing(path: str, size_bytes: int, name: str) -> Backing:
    """Open, lock, look at, preallocate and claim the backing file for the device ``name``.

    A block device is used in its whole size; a regular file is made, or grown, to
    ``size_bytes``.  Raises `HostError` in one line.  A file that was made is removed again.
    One that was there is as it was, but for its mode where there was no room.
    """
    try:
        existed = trusted_file.status_of(path) is not None
        # O_EXCL, of a block device: nobody may have it mounted or in use.
        flags = os.O_RDWR | os.O_DIRECT | os.O_EXCL
        fd = trusted_file.open_file(path, flags | (0 if existed else os.O_CREAT))
    except OSError as exc:
        raise HostError(f"cannot open backing file {path}: {exc.strerror}") from exc
    try:
        _lock(fd, path)
        former = _former_claim(fd, path)
        trusted_file.make_private(fd, path)
        if former is None and stat.S_ISBLK(os.fstat(fd).st_mode):
            _clear_ends(fd)  # of noise; others have zeros there
        made = former.made if former else not existed
        early = None
        if not existed:
            file_flags.write_in_place(fd)
            early = Claim(name, size_bytes, _machine(), made)
        size_bytes = _preallocate(fd, path, size_bytes, former, early)
        _write_where_nothing_was(fd, size_bytes)
        _write_first_page(fd, Claim(name, size_bytes, _machine(), made).block())
        aio.write_zeros(fd, PAGE_SIZE)
    except BaseException as exc:
        os.close(fd)
        if not existed:
            os.unlink(path)
        if isinstance(exc, OSError):
            raise HostError(f"cannot use backing file {path}: {exc.strerror}") from exc
        raise
    return Backing(fd, made, former.name if former else None)


def close_backing(fd: int, path: str, *, made: bool, encrypted: bool = True) -> None:
    """The device is gone, and so is the sense of what is in the file: the claim ends.

    Of one that is not ``encrypted`` the pages are discarded before, where file system or device
    can do that: they read as zeros then.  A file that `open_backing` made is removed, if ``path``
    is still its name.  The claim ends last, so that a power failure leaves no file without one
    that has plain pages, or that should be gone.
    """
    if not encrypted:
        with contextlib.suppress(OSError):
            syscalls.punch_hole(fd, FIRST_PAGE_AT, room_bytes(os.lseek(fd, 0, os.SEEK_END)))
            os.fsync(fd)
    if made and _is_named(fd, path):
        os.unlink(path)
        _flush_directory(path)
    _write_first_page(fd, bytes(PAGE_SIZE))


class NotClaimed(HostError):
    """The file has no claim of the device any more."""


def release_backing(path: str, name: str, *, made: bool, encrypted: bool = True) -> None:
    """As `close_backing`, of a file that no process has open any more.

    Raises `NotClaimed`, or `HostError` where it can't be opened or is in use.
    """
    try:
        fd = trusted_file.open_file(path, os.O_RDWR | os.O_DIRECT)
        try:
            _lock(fd, path)
            claim = _former_claim(fd, path)
            if claim is None or claim.name != name:
                raise NotClaimed(f"{path} is not of '{name}' any more")
            close_backing(fd, path, made=made, encrypted=encrypted)
        finally:
            os.close(fd)
    except OSError as exc:
        raise HostError(f"cannot give backing file {path} back: {exc.strerror}") from exc


def _is_named(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _flush_directory(path: str) -> None:
    """A name that was removed does not come back; best effort."""
    with contextlib.suppress(OSError):
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise HostError(f"backing file {path} is in use by another device") from None


def _former_claim(fd: int, path: str) -> Claim | None:
    """The claim in a file that is ours, None where both ends are zeros, or noise of dm-crypt.

    Raises `HostError` where they hold anything else, or a claim that is not for this
    machine and this size.
    """
    with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:  # reads of any size: no O_DIRECT
        size_bytes = file.seek(0, os.SEEK_END)
        tail_at = max(0, size_bytes - END_BYTES)
        head = os.pread(file.fileno(), END_BYTES, 0)
        tail = os.pread(file.fileno(), END_BYTES, max(tail_at, len(head)))
    if is_zero(head) and is_zero(tail):
        return None
    claim = Claim.in_ends(head, tail)
    whose = ""
    if claim:
        if claim.machine != _machine():
            whose = f" of '{claim.name}' on another machine"
        elif claim.size_bytes != size_bytes:
            whose = f" of '{claim.name}' from when it had {format_size(claim.size_bytes)}"
        else:
            return claim
    elif crypt_device.holds_noise(fd):
        return None
    ends = [at for at, data in ((0, head), (tail_at, tail)) if not is_zero(data)]
    clear = " && ".join(
        f"dd if=/dev/zero of={shlex.quote(path)} bs=1M count=1 conv=notrunc"
        + (f" oflag=seek_bytes seek={at}" if at else "")
        for at in ends
    )
    raise HostError(f"{path} holds data{whose}; if nobody needs it: {clear}")


def _clear_ends(fd: int) -> None:
    """Zeros, as a claim has them around it."""
    with open(f"/proc/self/fd/{fd}", "r+b", buffering=0) as file:
        size_bytes = file.seek(0, os.SEEK_END)
        for at in (0, max(0, size_bytes - END_BYTES)):
            os.pwrite(file.fileno(), bytes(min(END_BYTES, size_bytes)), at)
        os.fsync(file.fileno())


def _preallocate(
    fd: int, path: str, size_bytes: int, former: Claim | None, early: Claim | None
) -> int:
    """Returns the size there is.

    The length changes in one step, and back where there is no room: file systems allocate in
    several, and the power may fail between them.  A claim is for one size, so the ``former`` one
    of a file that grows ends before.  ``early``, of a file that is made, comes before the room.
    """
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        size = os.lseek(fd, 0, os.SEEK_END)
        if size < MIN_BYTES:
            raise HostError(f"{path} is smaller than {format_size(MIN_BYTES)}")
        return size
    before = os.lseek(fd, 0, os.SEEK_END)
    grows = size_bytes > before
    try:
        if grows and former:
            _write_first_page(fd, bytes(PAGE_SIZE))
        if grows:
            _allocate(path, size_bytes, partial(os.ftruncate, fd, size_bytes))
        if early:
            _write_first_page(fd, early.block())
        _allocate(path, size_bytes, partial(os.posix_fallocate, fd, 0, size_bytes))
    except (HostError, OSError):
        if grows:
            os.ftruncate(fd, before)
        if grows and former:
            _write_first_page(fd, former.block())
        raise
    return os.lseek(fd, 0, os.SEEK_END)


def _allocate(path: str, size_bytes: int, step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as exc:
        reason = "no room for" if exc.errno == errno.ENOSPC else f"{exc.strerror}:"
        raise HostError(f"{reason} a backing file of {format_size(size_bytes)} at {path}") from exc


def _write_where_nothing_was(fd: int, size_bytes: int) -> None:
    """Zeros.  About as long as the disk takes for that; nothing of it where there was a file.

    The ends have been read, and 1.5 MiB ahead of them.  Such pages in the cache pass for data, also
    where the file system has nothing, or unwritten extents.
    """
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        return
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    end, size_bytes = 0, size_bytes & -PAGE_SIZE
    with mmap.mmap(-1, _ZEROS_BYTES) as memory, memoryview(memory) as zeros:
        while end < size_bytes:
            start = os.lseek(fd, end, os.SEEK_HOLE) & -PAGE_SIZE
            if start >= size_bytes:
                return
            try:
                end = min(os.lseek(fd, start, os.SEEK_DATA), size_bytes)
            except OSError as exc:
                if exc.errno != errno.ENXIO:  # the rest is a hole
                    raise
                end = size_bytes
            _write_zeros(fd, start, end, zeros)


def _write_zeros(fd: int, start: int, end: int, zeros: memoryview) -> None:
    with contextlib.suppress(OSError):  # Linux 6.17, and a disk that makes zeros itself
        syscalls.fallocate(fd, syscalls.FALLOC_FL_WRITE_ZEROES, start, end - start)
        return
    while start < end:
        start += os.pwrite(fd, zeros[: min(len(zeros), end - start)], start)


def _write_first_page(fd: int, block: bytes) -> None:
    """To the disk, so that it is there after a power failure."""
    with mmap.mmap(-1, PAGE_SIZE) as aligned:  # as O_DIRECT wants it
        aligned[:] = block
        if os.pwrite(fd, aligned, 0) != PAGE_SIZE:
            raise OSError(errno.EIO, "short write of the claim")
    os.fsync(fd)


def _machine() -> int:
    """32 bits that tell this machine from others that share its disks, the same after a reboot."""
    try:
        text = _MACHINE_ID.read_text()
    except OSError:
        text = ""
    return zlib.crc32((text.strip() or os.uname().nodename).encode())
