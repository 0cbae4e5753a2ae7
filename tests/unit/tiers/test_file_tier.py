"""The file tier on a real file, opened as the supervisor opens it."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from fuseswap.tiers.backing_file import open_backing
from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import AioEngine, Ended, Engine, ThreadEngine
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES, FIRST_PAGE_AT
from fuseswap.units import MIB, PAGE_SIZE, SEGMENT_BYTES
from tests.support.leftovers import collector_off
from tests.support.tier_reads import read_extent, write_extent

pytestmark = pytest.mark.slow

EXTENTS = 9


class Opened:
    """A tier on a file of nine extents and a bit."""

    def __init__(self, path: Path, engine: Engine) -> None:
        size_bytes = BOTH_ENDS_BYTES + EXTENTS * MIB + PAGE_SIZE
        self.fd = open_backing(str(path), size_bytes, "swap0").fd
        self.engine = engine
        self.file = DirectFile(self.fd, engine)
        self.tier = FileTier(self.file)
        self.arena = mmap.mmap(-1, 2 * SEGMENT_BYTES)

    def segment(self, seed: int) -> memoryview:
        """1 MiB of random bytes in page-aligned memory."""
        self.arena[SEGMENT_BYTES:] = random.Random(seed).randbytes(SEGMENT_BYTES)
        return memoryview(self.arena)[SEGMENT_BYTES:]

    def close(self) -> None:
        self.engine.close()
        os.close(self.fd)


@pytest.fixture(params=["aio", "threads"])
async def opened(
    tmp_path: Path, request: pytest.FixtureRequest, nursery: trio.Nursery
) -> AsyncIterator[Opened]:
    engine: Engine = AioEngine() if request.param == "aio" else ThreadEngine(2)
    nursery.start_soon(engine.run)
    opened = Opened(tmp_path / "backing", engine)
    yield opened
    opened.close()


async def test_only_whole_extents_count(opened: Opened) -> None:
    assert opened.tier.extent_count == EXTENTS


@pytest.mark.parametrize("extent", [0, 4, EXTENTS - 1])
async def test_any_range_of_what_was_written_can_be_read(opened: Opened, extent: int) -> None:
    segment = opened.segment(extent)
    await write_extent(opened.tier, extent, segment)
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
        found = await read_extent(opened.tier, extent, offset, length)
        assert found == bytes(segment[offset : offset + length])
    segment.release()


async def test_the_ends_of_the_file_are_not_touched(opened: Opened, tmp_path: Path) -> None:
    before = (tmp_path / "backing").read_bytes()
    for extent in range(EXTENTS):
        segment = opened.segment(extent)
        await write_extent(opened.tier, extent, segment)
    after = (tmp_path / "backing").read_bytes()
    assert (after[:MIB], after[-MIB:]) == (before[:MIB], before[-MIB:])
    assert after[MIB : 2 * MIB] == random.Random(0).randbytes(MIB)
    segment.release()


async def test_extents_do_not_touch_each_other(opened: Opened) -> None:
    for extent in (3, 2, 4):
        segment = opened.segment(extent)
        await write_extent(opened.tier, extent, segment)
    for extent in (2, 3, 4):
        expected = random.Random(extent).randbytes(SEGMENT_BYTES)
        assert await read_extent(opened.tier, extent, 0, SEGMENT_BYTES) == expected
    segment.release()


async def test_an_extent_is_written_over_as_it_is(opened: Opened) -> None:
    blocks = os.fstat(opened.fd).st_blocks
    for seed in (1, 2):
        segment = opened.segment(seed)
        await write_extent(opened.tier, 5, segment)
    assert await read_extent(opened.tier, 5, 77, 1000) == bytes(segment[77:1077])
    assert os.fstat(opened.fd).st_blocks == blocks
    segment.release()


async def test_a_read_beyond_the_end_is_an_error_and_not_short_data(opened: Opened) -> None:
    os.ftruncate(opened.fd, FIRST_PAGE_AT + 2 * MIB + PAGE_SIZE)
    assert len(await read_extent(opened.tier, 2, 0, PAGE_SIZE)) == PAGE_SIZE
    with pytest.raises(OSError, match="short read"):
        await read_extent(opened.tier, 2, PAGE_SIZE - 10, 20)
    with pytest.raises(OSError, match="short read"):
        await read_extent(opened.tier, 5, 0, 10)


async def test_a_write_that_fails_is_an_error(opened: Opened, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "backing", os.O_RDONLY | os.O_DIRECT)
    tier = FileTier(DirectFile(fd, opened.engine))
    segment = opened.segment(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await write_extent(tier, 0, segment)
    segment.release()
    os.close(fd)


class ShortEngine:
    """An engine whose writes end short: by ``counts``, then as `inner` ends them."""

    def __init__(self, inner: Engine, counts: list[int]) -> None:
        self.inner = inner
        self.counts = counts

    @property
    def in_flight(self) -> int:
        return self.inner.in_flight

    def know(self, fd: int) -> None:
        self.inner.know(fd)

    def forget(self, fd: int) -> None:
        self.inner.forget(fd)

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        if write and self.counts:
            count = self.counts.pop(0)
            if not count or count % PAGE_SIZE:
                ended(count)
                return
            memory = memory[:count]
        self.inner.submit(write=write, fd=fd, memory=memory, at=at, ended=ended)

    def reap(self) -> bool:
        return self.inner.reap()

    async def run(self) -> None:
        await self.inner.run()

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("count", [0, 100])
async def test_a_short_write_is_an_error(opened: Opened, count: int) -> None:
    tier = FileTier(DirectFile(opened.fd, ShortEngine(opened.engine, [count])))
    segment = opened.segment(1)
    with pytest.raises(OSError, match=f"short write: {count} of {SEGMENT_BYTES} bytes"):
        await write_extent(tier, 0, segment)
    segment.release()


async def test_a_write_in_pieces_goes_on(opened: Opened) -> None:
    counts = [300 * 1024, PAGE_SIZE, 300 * 1024]
    tier = FileTier(DirectFile(opened.fd, ShortEngine(opened.engine, counts)))
    segment = opened.segment(6)
    await write_extent(tier, 1, segment)
    assert await read_extent(opened.tier, 1, 0, SEGMENT_BYTES) == bytes(segment)
    assert not counts
    segment.release()


async def test_more_reads_than_the_device_takes_at_once(opened: Opened) -> None:
    segment = opened.segment(8)
    await write_extent(opened.tier, 2, segment)
    found: dict[int, bytes | OSError] = {}

    async def read(block: int) -> None:
        found[block] = await read_extent(opened.tier, 2, block * PAGE_SIZE, 10)

    async with trio.open_nursery() as nursery:
        for block in range(256):
            nursery.start_soon(read, block)
    assert found == {b: bytes(segment[b * PAGE_SIZE : b * PAGE_SIZE + 10]) for b in range(256)}
    assert opened.engine.in_flight == 0
    segment.release()


async def test_neither_reads_nor_writes_leave_anything_to_collect(opened: Opened) -> None:
    segment = opened.segment(1)
    with collector_off() as garbage:
        for _ in range(20):
            await write_extent(opened.tier, 3, segment)
            assert await read_extent(opened.tier, 3, 5000, 300) == segment[5000:5300]
            found: OSError | None = await await_callback(
                partial(opened.file.begin_put, 0, bytes(8192))
            )
            assert found is None
        assert not garbage.found()
