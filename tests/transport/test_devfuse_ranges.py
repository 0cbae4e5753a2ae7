"""devfuse: FALLOCATE and LSEEK, which pyfuse3 has no handler for, and READDIR."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import METRICS, PARAMS, STATS, Tree, param_inode, stat_inode
from tests.support.fuse_requests import (
    DIRENT,
    READ_WRITE,
    ROOT,
    SWAPFILE,
    FakeKernel,
    Op,
    fallocate_request,
    lseek_request,
    read_request,
    request,
    write_request,
)

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
SIZE = 64 << 20
PAGE = b"something" * 455 + b"x"


@pytest.fixture
def filled(kernel: FakeKernel) -> FakeKernel:
    for page in range(8):
        assert not kernel.ask(write_request(page * 4096, PAGE)).error
    return kernel


@pytest.mark.parametrize("mode", [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
def test_ranges_become_zeros(filled: FakeKernel, device: Device, mode: int) -> None:
    assert filled.ask(fallocate_request(mode, 4096 + 100, 3 * 4096)).error == 0
    after = filled.ask(read_request(0, 8 * 4096)).body
    expected = bytearray(PAGE * 8)
    expected[4196 : 4196 + 3 * 4096] = bytes(3 * 4096)
    assert after == expected
    assert device.cache.statistics().stored_pages == 6, "whole pages are holes"
    assert device.transport.discards == 1


def test_a_punch_may_reach_beyond_the_end(filled: FakeKernel, device: Device) -> None:
    mode = PUNCH_HOLE | KEEP_SIZE
    assert filled.ask(fallocate_request(mode, 4096, (1 << 63) - 4097)).error == 0
    assert device.cache.statistics().stored_pages == 1
    assert filled.ask(fallocate_request(mode, SIZE, 4096)).error == 0
    assert filled.ask(fallocate_request(mode, SIZE + 1, 1)).error == 0


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (0, errno.EOPNOTSUPP),
        (KEEP_SIZE, errno.EOPNOTSUPP),
        (COLLAPSE, errno.EOPNOTSUPP),
        (INSERT, errno.EOPNOTSUPP),
        (UNSHARE | PUNCH_HOLE | KEEP_SIZE, errno.EOPNOTSUPP),
        (PUNCH_HOLE | ZERO_RANGE, errno.EOPNOTSUPP),
        (0xFFFFFFFF, errno.EOPNOTSUPP),
    ],
)
def test_other_modes_are_refused(filled: FakeKernel, device: Device, mode: int, code: int) -> None:
    assert filled.ask(fallocate_request(mode, 0, 8 * 4096)).error == code
    assert device.cache.statistics().stored_pages == 8


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 1 << 63), (1 << 63, 4096), ((1 << 64) - 1, 1), ((1 << 64) - 1, (1 << 64) - 1)],
)
def test_impossible_ranges_are_einval(
    filled: FakeKernel, device: Device, offset: int, length: int
) -> None:
    message = fallocate_request(PUNCH_HOLE | KEEP_SIZE, offset, length)
    assert filled.ask(message).error == errno.EINVAL
    assert device.cache.statistics().stored_pages == 8


@pytest.mark.parametrize("inode", [ROOT, METRICS, stat_inode("loads"), param_inode("dedup"), 99])
def test_only_the_swapfile_has_ranges(kernel: FakeKernel, inode: int) -> None:
    message = fallocate_request(PUNCH_HOLE | KEEP_SIZE, 0, 4096, inode)
    assert kernel.ask(message).error == errno.EOPNOTSUPP
    assert kernel.ask(lseek_request(0, os.SEEK_DATA, inode)).error == errno.ENOSYS


def _seek(kernel: FakeKernel, offset: int, whence: int) -> int | None:
    reply = kernel.ask(lseek_request(offset, whence))
    if reply.error == errno.ENXIO:
        return None
    assert not reply.error
    return int(struct.unpack("<Q", reply.body)[0])


def test_data_and_holes_are_found(kernel: FakeKernel) -> None:
    for page in (2, 3, 700):
        kernel.ask(write_request(page * 4096, PAGE))
    assert _seek(kernel, 0, os.SEEK_DATA) == 2 * 4096
    assert _seek(kernel, 2 * 4096 + 5, os.SEEK_DATA) == 2 * 4096 + 5
    assert _seek(kernel, 4 * 4096, os.SEEK_DATA) == 700 * 4096
    assert _seek(kernel, 701 * 4096, os.SEEK_DATA) is None
    assert _seek(kernel, 0, os.SEEK_HOLE) == 0
    assert _seek(kernel, 2 * 4096 + 5, os.SEEK_HOLE) == 4 * 4096
    assert _seek(kernel, 700 * 4096, os.SEEK_HOLE) == 701 * 4096
    assert _seek(kernel, SIZE - 1, os.SEEK_HOLE) == SIZE - 1
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        assert _seek(kernel, SIZE, whence) is None
        assert _seek(kernel, (1 << 64) - 1, whence) is None


def test_the_end_of_a_full_file_is_a_hole(kernel: FakeKernel) -> None:
    kernel.ask(write_request(SIZE - 4096, PAGE))
    assert _seek(kernel, SIZE - 4096, os.SEEK_HOLE) == SIZE


@pytest.mark.parametrize("whence", [os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, 5, 0xFFFFFFFF])
def test_other_seeks_are_the_kernels(kernel: FakeKernel, whence: int) -> None:
    assert kernel.ask(lseek_request(0, whence)).error == errno.EINVAL


# -- directories ---------------------------------------------------------------------


def _list(kernel: FakeKernel, inode: int, size: int) -> list[tuple[str, int, int]]:
    """Names with inode and type, read in pieces of ``size`` bytes as the kernel would."""
    found: list[tuple[str, int, int]] = []
    offset = 0
    while True:
        body = READ_WRITE.pack(0, offset, size, 0, 0, 0, 0)
        reply = kernel.ask(request(Op.READDIR, inode, body))
        assert not reply.error
        assert len(reply.body) <= size
        if not reply.body:
            return found
        at = 0
        while at < len(reply.body):
            number, offset, length, kind = DIRENT.unpack_from(reply.body, at)
            name = reply.body[at + DIRENT.size : at + DIRENT.size + length]
            found.append((name.decode(), number, kind))
            at += -(-(DIRENT.size + length) // 8) * 8


@pytest.mark.parametrize("inode", [ROOT, STATS, PARAMS])
@pytest.mark.parametrize("size", [64, 200, 4096, 1 << 20])
def test_every_name_is_listed_once(kernel: FakeKernel, tree: Tree, inode: int, size: int) -> None:
    found = _list(kernel, inode, size)
    assert [name for name, _, _ in found[:2]] == [".", ".."]
    directory, regular = 4, 8
    assert found[2:] == [
        (entry.name, entry.inode, directory if entry.is_directory else regular)
        for entry in tree.entries(inode)
    ]


def test_no_room_for_one_name_is_an_empty_answer(kernel: FakeKernel) -> None:
    for offset, size in ((0, 0), (0, 24), (1 << 40, 4096), ((1 << 64) - 1, 4096)):
        body = READ_WRITE.pack(0, offset, size, 0, 0, 0, 0)
        assert kernel.ask(request(Op.READDIR, ROOT, body)).body == b""


def test_a_file_is_no_directory(kernel: FakeKernel) -> None:
    for inode in (SWAPFILE, METRICS, stat_inode("loads"), 99):
        body = READ_WRITE.pack(0, 0, 4096, 0, 0, 0, 0)
        assert kernel.ask(request(Op.READDIR, inode, body)).error
