"""The log of a disk's writes: the format of dm-log-writes, as qemu's ``blklogwrites`` writes it.

    sector 0     magic, version, number of entries, bytes of a sector (512 here)
    then, each   a sector that says: first sector, sectors, flags, bytes of a mark's text
                 the bytes that were written; none of a flush or a discard

All numbers are little-endian.  Entries stand in the order in which they were submitted.  After a
flush all before it are on the disk.  A write with FUA is there once it has ended.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x6A736677736872
VERSION = 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MIN_SECTOR = 512
_ZEROS = bytes(1 << 20)


class BadLog(Exception):
    """It is no such log, or a part of it is missing; one line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request.  ``at`` and ``size`` in bytes of the disk, ``data_at`` in bytes of the log."""

    at: int
    size: int
    flags: int
    data_at: int

    @property
    def is_write(self) -> bool:
        """Whether it changes what the disk holds."""
        return self.size > 0 and not self.flags & MARK

    @property
    def is_flush(self) -> bool:
        """Whether what came before it is on the disk for good."""
        return bool(self.flags & FLUSH)

    @property
    def is_kept(self) -> bool:
        """Whether it is on the disk without a flush."""
        return bool(self.flags & FUA)


def read(log: Path) -> list[Entry]:
    """The entries, without their data.  Raises `BadLog`."""
    size = log.stat().st_size
    with open(log, "rb") as file:
        head = file.read(_SUPER.size)
        if len(head) < _SUPER.size:
            raise BadLog(f"{log} has no head")
        magic, version, count, sector = _SUPER.unpack(head)
        if magic != MAGIC:
            raise BadLog(f"{log} is no log of writes")
        if version != VERSION:
            raise BadLog(f"{log} has version {version}, not {VERSION}")
        if sector < _MIN_SECTOR or sector & (sector - 1):
            raise BadLog(f"{log} has sectors of {sector} bytes")
        entries, at = [], sector
        for number in range(count):
            packed = os.pread(file.fileno(), _ENTRY.size, at)
            if len(packed) < _ENTRY.size:
                raise BadLog(f"{log} ends at entry {number} of {count}")
            first, sectors, flags, mark_bytes = _ENTRY.unpack(packed)
            entry = Entry(first * sector, sectors * sector, flags, at + sector)
            at += sector + _data_bytes(entry, mark_bytes, sector)
            if at > size:
                raise BadLog(f"{log} ends at entry {number} of {count}")
            entries.append(entry)
    return entries


def _data_bytes(entry: Entry, mark_bytes: int, sector: int) -> int:
    if entry.flags & MARK:
        return -(-mark_bytes // sector) * sector
    return 0 if entry.flags & DISCARD else entry.size


def write(log: Path, entries: Sequence[tuple[int, bytes, int]], sector: int = _MIN_SECTOR) -> None:
    """A log of requests: where on the disk, what, flags.  Of whole sectors; for tests."""
    with open(log, "wb") as file:
        file.write(_SUPER.pack(MAGIC, VERSION, len(entries), sector).ljust(sector, b"\0"))
        for at, data, flags in entries:
            text = len(data) if flags & MARK else 0
            sectors = 0 if text else len(data) // sector
            file.write(_ENTRY.pack(at // sector, sectors, flags, text).ljust(sector, b"\0"))
            if not flags & DISCARD:
                file.write(data.ljust(-(-len(data) // sector) * sector, b"\0"))


def apply(entry: Entry, log: int, disk: int, start: int = 0, end: int | None = None) -> None:
    """Do to ``disk`` what the entry did, or only its bytes from ``start`` to ``end``.

    A discard makes zeros.  Both are descriptors.
    """
    if not entry.is_write:
        return
    end = entry.size if end is None else end
    while start < end:
        length = min(len(_ZEROS), end - start)
        if entry.flags & DISCARD:
            data = _ZEROS[:length]
        else:
            data = os.pread(log, length, entry.data_at + start)
        start += os.pwrite(disk, data, entry.at + start)


def written_from(entries: Sequence[Entry], log: int, at: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each write that begins at ``at`` of the disk or behind it."""
    for number, entry in enumerate(entries):
        if entry.is_write and entry.at >= at and not entry.flags & DISCARD:
            yield number, os.pread(log, entry.size, entry.data_at)
