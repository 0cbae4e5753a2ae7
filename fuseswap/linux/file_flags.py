"""Flags of a file that its file system heeds (``chattr``)."""

from __future__ import annotations

import contextlib
import fcntl
import struct

_LONG = struct.Struct("@l")
_FS_IOC_GETFLAGS = 0x8000_6601 | _LONG.size << 16
_FS_IOC_SETFLAGS = 0x4000_6602 | _LONG.size << 16
_FS_NOCOW_FL = 0x0080_0000


def write_in_place(fd: int) -> None:
    """Have btrfs write to the blocks that an empty file is given, instead of to new ones each time.

    With those it would run out of room, preallocated or not, and take memory for each write.
    Other file systems know no such flag, and do it anyway.
    """
    with contextlib.suppress(OSError):
        flags = bytearray(_LONG.size)
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags)
        wanted = _LONG.unpack(flags)[0] | _FS_NOCOW_FL
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, _LONG.pack(wanted))
