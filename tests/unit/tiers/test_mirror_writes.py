"""A half of a mirror whose writes do not end: the other half goes on, and nothing gets mixed up."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.mirror_reads import FIRST, SECOND
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.units import SEGMENT_BYTES
from tests.support.fake_tier import FakeTier
from tests.support.tier_reads import GENERATION, read_extent, write_extent

EXTENTS = 8
TIMEOUT_S = 10
OLD, NEW = b"old " * (SEGMENT_BYTES // 4), b"new " * (SEGMENT_BYTES // 4)

each_half = pytest.mark.parametrize("bad", [FIRST, SECOND])


class Hung:
    """A mirror that runs, and its halves, of which one may hang."""

    def __init__(self) -> None:
        self.halves = FakeTier(EXTENTS, "one"), FakeTier(EXTENTS, "two")
        self.tier = MirroredTier("mirror0", self.halves)
        self.tier.set_timeout(TIMEOUT_S)

    def hold(self, which: int) -> FakeTier:
        half = self.halves[which]
        half.hold_writes, half.cancellable = True, False
        return half

    async def write(self, extent: int, segment: bytes = NEW) -> None:
        await write_extent(self.tier, extent, memoryview(segment))


@pytest.fixture
async def hung() -> AsyncIterator[Hung]:
    found = Hung()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.tier.run)
        yield found
        nursery.cancel_scope.cancel()


@each_half
async def test_the_other_half_has_it_after_half_of_the_time(
    hung: Hung, bad: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    half = hung.hold(bad)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for extent in range(4):
            nursery.start_soon(hung.write, extent)
    assert TIMEOUT_S / 2 <= trio.current_time() - began < TIMEOUT_S / 2 + 1
    assert f"{half.name} does not take segments" in caplog.text
    assert [hung.tier.only_half(extent) for extent in range(5)] == [1 - bad] * 4 + [None]
    assert hung.tier.statistics().mirror_one_sided_writes == 4
    assert await read_extent(hung.tier, 2, 8, 4) == b"new "
    assert half.reads_begun == 0


@each_half
async def test_it_gets_nothing_until_its_late_writes_have_ended(
    hung: Hung, bad: int, autojump_clock: MockClock
) -> None:
    """`FakeTier` takes no two writes to an extent: the late one could come after the newer."""
    half = hung.hold(bad)
    await hung.write(1, OLD)
    await hung.write(1)
    await trio.sleep(60)
    await hung.write(1)
    assert len(half.writes) == 1, "it rests, however long"
    half.hold_writes = False
    half.writes[0].finish()
    assert hung.tier.only_half(1) == 1 - bad, "what came there is the old"
    await hung.write(1)
    assert hung.tier.only_half(1) is None
    assert bytes(half.extents[1]) == NEW


@each_half
async def test_one_of_its_writes_that_ends_does_not_set_it_right(
    hung: Hung, bad: int, autojump_clock: MockClock
) -> None:
    half = hung.hold(bad)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hung.write, 1)
        await trio.sleep(TIMEOUT_S / 4)
        nursery.start_soon(hung.write, 2)
        await trio.sleep(TIMEOUT_S / 3)
        assert hung.tier.only_half(1) == 1 - bad
        half.writes[1].finish()
    assert hung.tier.only_half(2) is None, "it has that one"
    half.hold_writes = False
    await hung.write(1)
    assert len(half.writes) == 1
    assert hung.tier.only_half(1) == 1 - bad


@each_half
async def test_a_late_half_is_told_of_no_release_and_not_repaired(
    hung: Hung, bad: int, autojump_clock: MockClock
) -> None:
    half = hung.hold(bad)
    await hung.write(1)
    hung.tier.release(1, GENERATION)
    assert half.released == []
    assert hung.halves[1 - bad].released == [(1, GENERATION)]
    memory = memoryview(bytearray(SEGMENT_BYTES))
    repair = partial(hung.tier.begin_repair, bad, 2, GENERATION, memory, lambda found: True)
    error = await await_callback(repair)
    assert isinstance(error, OSError)
    assert error.errno == errno.EBUSY
    half.writes[0].fail()
    hung.tier.release(2, GENERATION)
    assert half.released == [(2, GENERATION)]


async def test_where_both_are_late_a_write_fails_at_once(
    hung: Hung, autojump_clock: MockClock
) -> None:
    hung.hold(FIRST)
    hung.hold(SECOND)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hung.write, 1)
        nursery.start_soon(hung.write, 2)
        await trio.sleep(TIMEOUT_S)
        assert hung.tier.only_half(1) is None, "neither has it: there is nothing to go on with"
        by_extent = [{write.extent: write for write in half.writes} for half in hung.halves]
        by_extent[FIRST][1].finish()
        by_extent[SECOND][2].finish()
        await trio.sleep(1)
        assert [hung.tier.only_half(extent) for extent in (1, 2)] == [FIRST, SECOND]
        began = trio.current_time()
        with pytest.raises(OSError, match="no half of mirror mirror0 answers"):
            await hung.write(3)
        assert trio.current_time() == began
    by_extent[SECOND][1].finish()
    await wait_all_tasks_blocked()
    for half in hung.halves:
        half.hold_writes = False
    await hung.write(3)
    assert hung.tier.only_half(3) == SECOND
