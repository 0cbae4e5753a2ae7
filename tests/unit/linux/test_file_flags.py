"""The flag that has btrfs write in place: asked for once, and where there is none nothing fails."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from fuseswap.linux.file_flags import write_in_place

NOCOW = 0x00800000  # of linux/fs.h
COMPRESSED = 0x4


class FileSystem:
    """One that keeps flags of a file, as ``fcntl.ioctl`` reaches them on 64 bits."""

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def ioctl(self, fd: int, request: int, argument: bytearray | bytes) -> int:
        if request == 0x80086601:  # FS_IOC_GETFLAGS
            assert isinstance(argument, bytearray)
            argument[:] = struct.pack("@l", self.flags)
        else:
            assert request == 0x40086602  # FS_IOC_SETFLAGS
            (self.flags,) = struct.unpack("@l", argument)
        return 0


def test_other_flags_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    there = FileSystem(COMPRESSED)
    monkeypatch.setattr(fcntl, "ioctl", there.ioctl)
    write_in_place(0)
    assert there.flags == COMPRESSED | NOCOW


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_is_no_such_flag_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    asked = []

    def refuse(fd: int, request: int, argument: object) -> int:
        asked.append(request)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    write_in_place(0)
    assert asked


def test_on_the_file_system_here(tmp_path: Path) -> None:
    with open(tmp_path / "file", "xb") as file:
        write_in_place(file.fileno())
        file.write(b"written")
    assert (tmp_path / "file").read_bytes() == b"written"
