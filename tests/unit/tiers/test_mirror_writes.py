"""A half of a mirror whose writes do not end: the other half goes on, and nothing gets mixed up."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.encrypted_tier import EncryptedTier
from fuseswap.tiers.mirror_reads import FIRST, SECOND
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.segment_cipher import SegmentCipher
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, SEGMENT_BYTES
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
async def test_where_the_other_rests_it_is_asked_after_half_of_the_time(
    hung: Hung, bad: int, autojump_clock: MockClock
) -> None:
    """It failed one write, so the next ones went to the half that hangs."""
    well = hung.halves[1 - bad]
    well.fail_writes = True
    await hung.write(1)
    well.fail_writes = False
    half = hung.hold(bad)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for extent in range(2, 6):
            nursery.start_soon(hung.write, extent)
    assert trio.current_time() - began < TIMEOUT_S
    assert [hung.tier.only_half(extent) for extent in range(2, 6)] == [1 - bad] * 4
    assert len(half.writes) == 4


async def test_one_that_failed_does_not_have_it(hung: Hung, autojump_clock: MockClock) -> None:
    """The other may answer yet: nothing is done before."""
    hung.hold(SECOND)
    hung.halves[FIRST].fail_writes = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hung.write, 1)
        await trio.sleep(10 * TIMEOUT_S)
        assert len(hung.halves[SECOND].writes) == 1
        hung.halves[SECOND].writes[0].finish()
    assert hung.tier.only_half(1) == SECOND


@each_half
async def test_late_writes_need_nothing_that_was_given_back(
    bad: int, autojump_clock: MockClock
) -> None:
    """Encrypted halves have three buffers: the fourth write looks at its segment when one ends."""
    inner = [FakeTier(EXTENTS, name, ENCRYPTED_SEGMENT_BYTES) for name in ("one", "two")]
    cipher = [SegmentCipher(bytes(32), b"device", number) for number in (1, 2)]
    halves = EncryptedTier(inner[0], cipher[0]), EncryptedTier(inner[1], cipher[1])
    mirror = MirroredTier("mirror0", halves)
    mirror.set_timeout(TIMEOUT_S)
    inner[bad].hold_writes, inner[bad].cancellable = True, False
    frame = bytearray(SEGMENT_BYTES)

    async def write(extent: int) -> None:
        with memoryview(frame) as segment:
            await write_extent(mirror, extent, segment)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.run)
        async with trio.open_nursery() as writers:
            for extent in range(6):
                writers.start_soon(write, extent)
        assert [mirror.only_half(extent) for extent in range(6)] == [1 - bad] * 6
        were_late = mirror.has_late_writes
        for _ in range(6):
            inner[bad].writes[0].finish()
            await wait_all_tasks_blocked()
        assert (were_late, mirror.has_late_writes) == (True, False)
        await write(7)
        nursery.cancel_scope.cancel()


async def test_a_tier_with_late_writes_is_not_let_go(hung: Hung, autojump_clock: MockClock) -> None:
    """Its files would be closed, and their numbers another's, before these are carried out."""
    tiers = TierTable()
    entry = tiers.register(hung.tier)
    tiers.set_timeout(TIMEOUT_S)
    half = hung.hold(FIRST)
    await hung.write(1)
    assert not entry.extents.in_use
    with pytest.raises(InvalidArgument, match="has not answered writes"):
        tiers.unregister("mirror0")
    half.writes[0].finish()
    tiers.unregister("mirror0")


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
