"""Loop devices: attach with direct I/O and 4096-byte sectors, find, detach for certain.

Direct I/O, since buffered loop keeps every page a second time in the page cache.
A path of a backing file, as sysfs has it, is text: in another mount namespace another file may
have it.  So a device is known by the number that the kernel gives to each attachment (`sequence`,
Linux 5.15).  Without that number it is asked which inode it has, by a child, since the file's
server may hang.  ``losetup -d`` on a busy device succeeds and detaches later, so a detach is over
only when sysfs says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux.command import run
from fuseswap.linux.timed_file import in_child

SECTOR_BYTES = 4096
_DETACH_TIMEOUT_S = 10.0
_BLOCK = Path("/sys/block")
_LOOP_GET_STATUS64 = 0x4C05
_STATUS_BYTES = 232
_DEVICE_AND_INODE = struct.Struct("@QQ")
# Swap-outs must not be throttled in favour of reads (they are what the reads wait for), and
# a completion is best handled where it arrives: see docs/benchmarks.md.
_QUEUE = {"wbt_lat_usec": "0", "rq_affinity": "0"}


def attach(path: str) -> str:
    """Attach ``path`` and return the device (``/dev/loopN``).  Raises `HostError`."""
    sector = str(SECTOR_BYTES)
    device = run(
        "losetup", "--find", "--show", "--direct-io=on", "--sector-size", sector, path
    ).strip()
    attributes = _BLOCK / Path(device).name
    direct = (attributes / "loop" / "dio").read_text().strip()
    if direct != "1":
        detach(device)
        raise HostError(f"{device} does no direct I/O on {path}; every page would be kept twice")
    for name, value in _QUEUE.items():
        with contextlib.suppress(OSError):  # a kernel without it: a little slower
            (attributes / "queue" / name).write_text(value)
    return device


def find(path: str) -> str | None:
    """The device ``path`` is attached to, or None, also where the file does not answer."""
    for entry in sorted(_BLOCK.glob("loop*/loop/backing_file")):
        device = f"/dev/{entry.parent.parent.name}"
        if backing_of(device) == path and is_of(device, path):
            return device
    return None


def is_of(device: str, path: str) -> bool:
    """Whether the inode behind ``device`` is the file at ``path``; asks the file, in a child."""

    def ask() -> bytes:
        found = os.stat(path)
        return b"same" if inode_of(device) == (found.st_dev, found.st_ino) else b""

    try:
        return bool(in_child(ask, Path(path)))
    except (HostError, OSError):
        return False


def inode_of(device: str) -> tuple[int, int]:
    """``st_dev`` and ``st_ino`` of the file behind it.  Raises `OSError`.

    That file is asked, so its server must not wait for this.
    """
    status = bytearray(_STATUS_BYTES)
    fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_GET_STATUS64, status)
    finally:
        os.close(fd)
    device_number, inode = _DEVICE_AND_INODE.unpack_from(status)
    return device_number, inode


def sequence(device: str) -> int | None:
    """Another number for each attachment of each device; None before Linux 5.15."""
    try:
        return int((_BLOCK / Path(device).name / "diskseq").read_text())
    except OSError:
        return None


def backing_of(device: str) -> str | None:
    """Path of the backing file as the kernel has it, None where nothing is attached.

    After its file system was unmounted lazily it is the path within: ``/swapfile``.
    """
    try:
        backing = (_BLOCK / Path(device).name / "loop" / "backing_file").read_text(
            errors="surrogateescape"
        )
    except OSError:
        return None
    return backing.rstrip("\n").removesuffix(" (deleted)")


def detach(device: str) -> None:
    """Detach and wait until it is.  Raises `HostError` where it stays busy."""
    backing = _BLOCK / Path(device).name / "loop" / "backing_file"
    if not backing.exists():
        return
    run("losetup", "--detach", device)
    deadline = time.monotonic() + _DETACH_TIMEOUT_S
    while backing.exists():
        if time.monotonic() > deadline:
            raise HostError(f"{device} is still busy; who has it open? (lsof {device})")
        time.sleep(0.02)
