"""The file tier on a real file, opened as the supervisor opens it."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.host.backing import open_backing
from fuseswap.tiers.file import FileTier
from fuseswap.tiers.threads import IoThreads
from fuseswap.units import MIB, PAGE_SIZE

EXTENTS = 9


class Opened:
    """A tier on a file of nine extents and a bit."""

    def __init__(self, path: Path) -> None:
        self.fd = open_backing(str(path), EXTENTS * MIB + PAGE_SIZE)
        self.threads = IoThreads(2)
        self.tier = FileTier(self.fd, self.threads)
        self.arena = mmap.mmap(-1, 2 * SEGMENT_BYTES)

    def segment(self, seed: int) -> memoryview:
        """1 MiB of random bytes in page-aligned memory."""
        self.arena[SEGMENT_BYTES:] = random.Random(seed).randbytes(SEGMENT_BYTES)
        return memoryview(self.arena)[SEGMENT_BYTES:]

    def close(self) -> None:
        self.threads.close()
        os.close(self.fd)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path / "backing")
    yield opened
    opened.close()


async def test_only_whole_extents_count(opened: Opened) -> None:
    assert opened.tier.extent_count == EXTENTS


@pytest.mark.parametrize("extent", [0, 4, EXTENTS - 1])
async def test_any_range_of_what_was_written_can_be_read(opened: Opened, extent: int) -> None:
    segment = opened.segment(extent)
    await opened.tier.write(extent, segment)
    chance = random.Random(extent)
    ranges = [
        (0, 1),
        (0, SEGMENT_BYTES),
        (SEGMENT_BYTES - 1, 1),
        (4095, 2),
        (4096, 4096),
        (1, 4100),
    ]
    for _ in range(20):
        offset = chance.randrange(SEGMENT_BYTES - 4100)
        ranges.append((offset, chance.randint(1, 4100)))
    for offset, length in ranges:
        found = await opened.tier.read(extent, offset, length)
        assert found == bytes(segment[offset : offset + length])
    segment.release()


async def test_extents_do_not_touch_each_other(opened: Opened) -> None:
    for extent in (3, 2, 4):
        segment = opened.segment(extent)
        await opened.tier.write(extent, segment)
    for extent in (2, 3, 4):
        expected = random.Random(extent).randbytes(SEGMENT_BYTES)
        assert await opened.tier.read(extent, 0, SEGMENT_BYTES) == expected
    segment.release()


async def test_an_extent_is_written_over_as_it_is(opened: Opened) -> None:
    blocks = os.fstat(opened.fd).st_blocks
    for seed in (1, 2):
        segment = opened.segment(seed)
        await opened.tier.write(5, segment)
    assert await opened.tier.read(5, 77, 1000) == bytes(segment[77:1077])
    assert os.fstat(opened.fd).st_blocks == blocks
    segment.release()


async def test_a_read_beyond_the_end_is_an_error_and_not_short_data(opened: Opened) -> None:
    os.ftruncate(opened.fd, 2 * MIB + PAGE_SIZE)
    assert len(await opened.tier.read(2, 0, PAGE_SIZE)) == PAGE_SIZE
    with pytest.raises(OSError, match="short read"):
        await opened.tier.read(2, PAGE_SIZE - 10, 20)
    with pytest.raises(OSError, match="short read"):
        await opened.tier.read(5, 0, 10)


async def test_a_write_that_fails_is_an_error(opened: Opened, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "backing", os.O_RDONLY | os.O_DIRECT)
    tier = FileTier(fd, opened.threads)
    segment = opened.segment(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await tier.write(0, segment)
    segment.release()
    os.close(fd)


@pytest.mark.parametrize("count", [0, 100])
async def test_a_short_write_is_an_error(opened: Opened, count: int) -> None:
    tier = FileTier(opened.fd, opened.threads, lambda fd, data, at: count)
    segment = opened.segment(1)
    with pytest.raises(OSError, match=f"short write: {count} of {SEGMENT_BYTES} bytes"):
        await tier.write(0, segment)
    segment.release()


async def test_a_write_in_pieces_goes_on(opened: Opened) -> None:
    tier = FileTier(
        opened.fd, opened.threads, lambda fd, data, at: os.pwrite(fd, data[: 300 * 1024], at)
    )
    segment = opened.segment(6)
    await tier.write(1, segment)
    assert await opened.tier.read(1, 0, SEGMENT_BYTES) == bytes(segment)
    segment.release()
