"""The log of a disk's writes: what is read is what was written, and a damaged one is refused."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.kernels import write_log
from tests.kernels.write_log import DISCARD, FLUSH, FUA, MARK, BadLog

A, B = b"a" * 512, b"b" * 1024
REQUESTS = [(0, A, 0), (1024, B, FUA), (0, b"", FLUSH), (0, b"a mark", MARK), (512, A, DISCARD)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    write_log.write(path, REQUESTS)
    return path


def put(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_entries_have_place_size_and_flags(log: Path) -> None:
    found = write_log.read(log)
    assert [(one.at, one.size, one.flags) for one in found] == [
        (0, 512, 0), (1024, 1024, FUA), (0, 0, FLUSH), (0, 0, MARK), (512, 512, DISCARD),
    ]  # fmt: skip
    assert [one.is_write for one in found] == [True, True, False, False, True]
    assert [one.is_flush for one in found] == [False, False, True, False, False]
    assert [one.is_kept for one in found] == [False, True, False, False, False]


def test_data_are_where_they_are_said_to_be(log: Path) -> None:
    data = log.read_bytes()
    first, second, *_ = write_log.read(log)
    assert data[first.data_at :][: first.size] == A
    assert data[second.data_at :][: second.size] == B


def test_sectors_of_a_log_may_be_larger(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write_log.write(path, [(8192, bytes(4096), 0), (0, b"", FLUSH), (4096, b"x" * 4096, 0)], 4096)
    assert [(one.at, one.size) for one in write_log.read(path)] == [
        (8192, 4096),
        (0, 0),
        (4096, 4096),
    ]


def test_it_is_the_format_of_the_kernel(tmp_path: Path) -> None:
    """Bytes as dm-log-writes has them, not as `write` does."""
    path = tmp_path / "log"
    head = struct.pack("<QQQI", 0x6A736677736872, 1, 2, 512).ljust(512, b"\0")
    write = struct.pack("<QQQQ", 3, 1, 2, 0).ljust(512, b"\0") + A
    flush = struct.pack("<QQQQ", 0, 0, 1, 0).ljust(512, b"\0")
    path.write_bytes(head + write + flush)
    first, second = write_log.read(path)
    assert (first.at, first.size, first.is_kept, first.data_at) == (1536, 512, True, 1024)
    assert second.is_flush
    assert not second.is_write


def test_entries_are_done_to_a_disk(log: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"." * 4096)
    with open(log, "rb") as source, open(disk, "r+b", buffering=0) as file:
        for entry in write_log.read(log):
            write_log.apply(entry, source.fileno(), file.fileno())
    assert disk.read_bytes() == A + bytes(512) + B + b"." * 2048


def test_a_torn_one_is_done_in_part(log: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"." * 4096)
    with open(log, "rb") as source, open(disk, "r+b", buffering=0) as file:
        write_log.apply(write_log.read(log)[1], source.fileno(), file.fileno(), end=512)
    assert disk.read_bytes() == b"." * 1024 + b"b" * 512 + b"." * 2560


def test_writes_behind_a_place_are_found(log: Path) -> None:
    entries = write_log.read(log)
    fd = os.open(log, os.O_RDONLY)
    assert list(write_log.written_from(entries, fd, 1024)) == [(1, B)]
    assert list(write_log.written_from(entries, fd, 0)) == [(0, A), (1, B)]
    os.close(fd)


@pytest.mark.parametrize(
    ("at", "data", "why"),
    [
        (0, b"x", "is no log of writes"),
        (8, b"\2", "has version 2, not 1"),
        (24, b"\1\0", "sectors of 1 bytes"),
        (24, b"\1\3", "sectors of 769 bytes"),
        (16, b"\6", "ends at entry 5 of 6"),
        (520, b"\xff\xff", "ends at entry 0 of 5"),
    ],
)
def test_a_damaged_one_is_refused(log: Path, at: int, data: bytes, why: str) -> None:
    put(log, at, data)
    with pytest.raises(BadLog, match=why):
        write_log.read(log)


@pytest.mark.parametrize("size", [0, 27])
def test_one_without_a_head_is_refused(log: Path, size: int) -> None:
    os.truncate(log, size)
    with pytest.raises(BadLog, match="has no head"):
        write_log.read(log)


def test_data_that_were_cut_off_are_refused(log: Path) -> None:
    """Of the last entry that has some."""
    write_log.write(log, [(0, B, 0)])
    os.truncate(log, log.stat().st_size - 1)
    with pytest.raises(BadLog, match="ends at entry 0 of 1"):
        write_log.read(log)
