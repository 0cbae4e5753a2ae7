"""What each tier must do, whatever it is: the contract of `fuseswap.tiers.tier.Tier`."""

from __future__ import annotations

import json
import mmap
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.fault_injection import Faults, FaultyEngine
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import AioEngine, Engine, ThreadEngine
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.tiers.tier import Tier
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES
from tests.support.fake_tier import FakeTier
from tests.support.leftovers import collector_off
from tests.support.tier_reads import GENERATION, read_extent, write_extent

EXTENTS = 4
_LONGEST_S = 20  # of one request; a tier that forgets to answer hangs for ever


class Failing:
    """Tells a tier to fail, or not to."""

    def __init__(self, path: Path) -> None:
        self.rules = path
        self.fake: FakeTier | None = None

    def set(self, *, fails: bool) -> None:
        """Reads and writes fail from now on, or go well."""
        if self.fake is not None:
            self.fake.fail_reads = self.fake.fail_writes = fails
        rule = {"errno": "EIO"} if fails else {}
        new = self.rules.with_suffix(".new")
        new.write_text(json.dumps({"read": rule, "write": rule}))
        new.rename(self.rules)


@pytest.fixture
def failing(tmp_path: Path) -> Failing:
    failing = Failing(tmp_path / "rules")
    failing.set(fails=False)
    return failing


KINDS = ("aio", "threads", "faulty", "late", "memory")


@pytest.fixture(params=KINDS)
async def tier(
    request: pytest.FixtureRequest, tmp_path: Path, failing: Failing, nursery: trio.Nursery
) -> AsyncIterator[Tier]:
    """One of each kind, with its task."""
    if request.param == "memory":
        failing.fake = FakeTier(EXTENTS)
        yield failing.fake
        return
    fd = os.open(tmp_path / "backing", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.posix_fallocate(fd, 0, BOTH_ENDS_BYTES + EXTENTS * SEGMENT_BYTES)
    engine: Engine = ThreadEngine(2) if request.param == "threads" else AioEngine()
    if request.param in ("faulty", "late"):
        engine = FaultyEngine(engine, Faults(str(failing.rules)))
    tier = FileTier(DirectFile(fd, engine))
    nursery.start_soon(tier.run)
    if request.param == "late":
        rule = {"latency_s": 0.002}
        failing.rules.write_text(json.dumps({"read": rule, "write": rule}))
    yield tier
    engine.close()
    os.close(fd)


@pytest.fixture
def arena() -> mmap.mmap:
    """Page-aligned memory for two segments."""
    return mmap.mmap(-1, 2 * SEGMENT_BYTES)


def fill(arena: mmap.mmap, seed: int, place: int = 0) -> memoryview:
    start = place * SEGMENT_BYTES
    arena[start : start + SEGMENT_BYTES] = random.Random(seed).randbytes(SEGMENT_BYTES)
    return memoryview(arena)[start : start + SEGMENT_BYTES]


class Ended:
    """A ``done`` that notes each call, and whether `begin` was still running."""

    def __init__(self) -> None:
        self.found: list[object] = []
        self._inside = False
        self._event = trio.Event()

    def begin(self, begin: Callable[[Callable[[object], None]], None]) -> None:
        self._inside = True
        begin(self)
        self._inside = False

    def __call__(self, found: object) -> None:
        assert not self._inside, "from inside"
        self.found.append(found)
        self._event.set()

    async def wait(self) -> object:
        """What it was called with, once."""
        with trio.fail_after(_LONGEST_S):
            await self._event.wait()
        await trio.sleep(0.002)
        (found,) = self.found
        return found


async def read(tier: Tier, extent: int, offset: int, length: int) -> object:
    ended = Ended()
    ended.begin(lambda done: tier.begin_read(extent, GENERATION, offset, length, done))
    return await ended.wait()


async def write(tier: Tier, extent: int, segment: memoryview) -> object:
    ended = Ended()
    ended.begin(lambda done: tier.begin_write(extent, GENERATION, segment, done))
    return await ended.wait()


async def test_it_says_what_it_is(tier: Tier) -> None:
    entry = TierTable().register(tier)
    assert entry.extents.extent_count == tier.extent_count == EXTENTS
    assert tier.read_unit > 0
    assert tier.read_unit & tier.read_unit - 1 == 0
    assert tier.volatile in (False, True)


async def test_done_comes_once_and_later(tier: Tier, arena: mmap.mmap) -> None:
    segment = fill(arena, 1)
    assert await write(tier, 2, segment) is None
    assert await read(tier, 2, 0, SEGMENT_BYTES) == bytes(segment)
    segment.release()


async def test_an_error_is_a_value_and_comes_once_and_later(
    tier: Tier, arena: mmap.mmap, failing: Failing, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["tier"] in ("aio", "threads"):
        pytest.skip("a sound file does not fail; 'faulty' is the same file")
    segment = fill(arena, 1)
    await write_extent(tier, 0, segment)
    failing.set(fails=True)
    assert isinstance(await write(tier, 1, segment), OSError)
    assert isinstance(await read(tier, 0, 0, 100), OSError)
    failing.set(fails=False)
    assert await write(tier, 1, segment) is None
    assert await read(tier, 1, 5, 100) == bytes(segment[5:105])
    segment.release()


async def test_a_failed_write_leaves_other_extents_alone(
    tier: Tier, arena: mmap.mmap, failing: Failing
) -> None:
    segment = fill(arena, 1)
    for extent in (0, 2):
        await write_extent(tier, extent, segment)
    other = fill(arena, 2, 1)
    failing.set(fails=True)
    await write(tier, 1, other)
    failing.set(fails=False)
    for extent in (0, 2):
        assert await read(tier, extent, 0, SEGMENT_BYTES) == bytes(segment)
    segment.release()
    other.release()


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (SEGMENT_BYTES - 1, 1),
        (4095, 2),
        (1, 4100),
        (PAGE_SIZE, PAGE_SIZE),
        (12345, 128 << 10),
        (0, SEGMENT_BYTES),
    ],
)
async def test_any_range_whatever_the_read_unit(
    tier: Tier, arena: mmap.mmap, offset: int, length: int
) -> None:
    segment = fill(arena, 3)
    await write_extent(tier, 1, segment)
    assert await read_extent(tier, 1, offset, length) == bytes(segment[offset : offset + length])
    segment.release()


async def test_an_extent_is_used_again_after_its_release(tier: Tier, arena: mmap.mmap) -> None:
    segment = fill(arena, 4)
    await write_extent(tier, 3, segment)
    tier.release(3, GENERATION)
    other = fill(arena, 5, 1)
    ended = Ended()
    ended.begin(lambda done: tier.begin_write(3, GENERATION + 1, other, done))
    assert await ended.wait() is None
    again = Ended()
    again.begin(lambda done: tier.begin_read(3, GENERATION + 1, 0, SEGMENT_BYTES, done))
    assert await again.wait() == bytes(other)
    segment.release()
    other.release()


async def test_many_at_once(tier: Tier, arena: mmap.mmap) -> None:
    """More reads than there are buffers, beside a write."""
    segment, other = fill(arena, 6), fill(arena, 7, 1)
    await write_extent(tier, 0, segment)
    writing = Ended()
    writing.begin(lambda done: tier.begin_write(1, GENERATION, other, done))
    reads = []
    for number in range(200):
        ended = Ended()
        offset = number * 5000
        ended.begin(
            lambda done, offset=offset: tier.begin_read(0, GENERATION, offset, 3000, done)  # type: ignore[misc]
        )
        reads.append((offset, ended))
    for offset, ended in reads:
        assert await ended.wait() == bytes(segment[offset : offset + 3000])
    assert await writing.wait() is None
    assert await read(tier, 1, 0, SEGMENT_BYTES) == bytes(other)
    segment.release()
    other.release()


async def test_nothing_is_left_to_collect(tier: Tier, arena: mmap.mmap) -> None:
    segment = fill(arena, 8)
    await write_extent(tier, 0, segment)
    with collector_off() as garbage:
        for _ in range(10):
            await write_extent(tier, 1, segment)
            await read_extent(tier, 1, 700, 3000)
            tier.release(1, GENERATION)
        assert not garbage.found()
    segment.release()
