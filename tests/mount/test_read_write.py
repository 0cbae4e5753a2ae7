"""The swapfile as a file: any offset, any length, held against a model."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Iterator

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice

pytestmark = pytest.mark.no_swap

SIZE = 64 * MIB
AREA = 4 * MIB
LENGTHS = (1, 7, 511, 512, 4095, 4096, 4097, 65536, 300_001, MIB)


@pytest.fixture
def fd(device: TestDevice) -> Iterator[int]:
    opened = os.open(device.swapfile, os.O_RDWR)
    yield opened
    os.close(opened)


def make_data(source: random.Random, size: int) -> bytes:
    """Zeros, noise, or something that compresses."""
    kind = source.randrange(4)
    if kind == 0:
        return bytes(size)
    if kind == 1:
        return source.randbytes(size)
    return (source.randbytes(37) * (size // 37 + 1))[:size]


def test_random_ranges_against_a_model(fd: int) -> None:
    source, model = random.Random(1), bytearray(AREA)
    for _ in range(400):
        size = min(source.choice(LENGTHS), AREA)
        offset = source.randrange(AREA - size + 1)
        if source.random() < 0.4:
            offset -= offset % 4096
        if source.random() < 0.5:
            data = make_data(source, size)
            assert os.pwrite(fd, data, offset) == size
            model[offset : offset + size] = data
        else:
            assert os.pread(fd, size, offset) == model[offset : offset + size]
    whole = b"".join(os.pread(fd, MIB, at) for at in range(0, AREA, MIB))
    assert whole == model


def test_the_file_position(device: TestDevice) -> None:
    with open(device.swapfile, "r+b") as file:
        file.seek(5 * MIB + 3)
        file.write(b"abc" * 5000)
        file.write(b"def")
        file.seek(5 * MIB + 3)
        assert file.read(15003) == b"abc" * 5000 + b"def"
        assert file.seek(0, os.SEEK_END) == SIZE


def test_two_descriptors_see_one_file(device: TestDevice, fd: int) -> None:
    with open(device.swapfile, "rb", buffering=0) as other:
        os.pwrite(fd, b"first", 6 * MIB)
        assert os.pread(other.fileno(), 5, 6 * MIB) == b"first"
        os.pwrite(fd, b"again", 6 * MIB)
        assert os.pread(other.fileno(), 5, 6 * MIB) == b"again"


def test_direct_io(device: TestDevice) -> None:
    """As the loop device asks; read into a buffer of whole pages."""
    opened = os.open(device.swapfile, os.O_RDWR | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as buffer:
            buffer[:] = random.Random(2).randbytes(MIB)
            expected = bytes(buffer)
            assert os.pwritev(opened, [buffer], 8 * MIB) == MIB
            buffer[:] = bytes(MIB)
            assert os.preadv(opened, [buffer], 8 * MIB) == MIB
            assert bytes(buffer) == expected
    finally:
        os.close(opened)


def test_the_end_of_the_file(fd: int) -> None:
    assert os.pwrite(fd, b"x" * 4096, SIZE - 4096) == 4096
    assert os.pread(fd, 8192, SIZE - 4096) == b"x" * 4096
    assert os.pread(fd, 4096, SIZE) == b""
    with pytest.raises(OSError, match="File too large") as caught:
        os.pwrite(fd, b"x" * 4096, SIZE)
    assert caught.value.errno == errno.EFBIG
    assert os.pwrite(fd, b"y" * 8192, SIZE - 4096) == 4096
    assert os.pread(fd, 8192, SIZE - 4096) == b"y" * 4096
    assert os.fstat(fd).st_size == SIZE


def test_truncation_is_refused(device: TestDevice, fd: int) -> None:
    os.pwrite(fd, b"kept", 0)
    for size in (0, SIZE - 4096, SIZE + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
        with pytest.raises(PermissionError):
            os.truncate(device.swapfile, size)
    with pytest.raises(PermissionError):
        os.open(device.swapfile, os.O_RDWR | os.O_TRUNC)
    os.ftruncate(fd, SIZE)
    assert os.pread(fd, 4, 0) == b"kept"
    assert os.fstat(fd).st_size == SIZE


def test_fsync(fd: int) -> None:
    os.pwrite(fd, b"synced", 0)
    os.fsync(fd)
    os.fdatasync(fd)
    os.sync()
