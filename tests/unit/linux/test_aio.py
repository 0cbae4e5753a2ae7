"""The first write to a file system, which has the kernel make something."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.linux import aio
from fuseswap.linux.aio import write_zeros
from fuseswap.units import MIB, PAGE_SIZE


@pytest.fixture
def backing(tmp_path: Path) -> Iterator[int]:
    """A file with a claim in its first page and nothing behind it."""
    path = tmp_path / "backing"
    path.write_bytes(b"claim".ljust(PAGE_SIZE, b"\0"))
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    os.ftruncate(fd, 3 * MIB)
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    path = f"/proc/self/fd/{fd}"
    return Path(path).read_bytes()


def test_it_is_a_write_and_changes_nothing(backing: int) -> None:
    before, blocks = content(backing), os.fstat(backing).st_blocks
    write_zeros(backing, PAGE_SIZE)
    assert os.fstat(backing).st_blocks - blocks == PAGE_SIZE // 512
    assert content(backing) == before


def test_a_file_that_fails_is_left_to_those_who_use_it(tmp_path: Path) -> None:
    path = tmp_path / "backing"
    path.write_bytes(bytes(PAGE_SIZE))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    write_zeros(fd, 0)
    os.close(fd)


def test_without_aio_there_is_nothing_to_do(backing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(slots: int, eventfd: int) -> None:
        raise OSError(errno.ENOSYS, "none")

    monkeypatch.setattr(aio, "AioContext", none)
    before = os.fstat(backing).st_blocks
    write_zeros(backing, PAGE_SIZE)
    assert os.fstat(backing).st_blocks == before
