"""The slow path on a tier that takes all the time there is: no second helping of that."""

from __future__ import annotations

import errno
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.tiers.tier import TIER_TIMEOUT_S
from fuseswap.units import PAGE_SIZE
from tests.support.fake_tier import FakeTier
from tests.support.tiered_devices import Tiered


async def fails(tiered: Tiered, first: int, count: int = 1) -> None:
    with pytest.raises(CorruptData, match="cannot be read"):
        await tiered.pending_io.read(first * PAGE_SIZE, count * PAGE_SIZE)


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.endswith("unreadable_pages")]


@pytest.mark.parametrize(("first", "count"), [(0, 1), (2, 3)])
async def test_a_read_that_was_too_late_is_not_made_again(
    tiered: Tiered,
    tier: FakeTier,
    first: int,
    count: int,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    """Of one page, and of several, of which each would have been asked for again."""
    await tiered.move_out()
    tier.hold_reads = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, tiered, first, count)
        await wait_all_tasks_blocked()
        begun = tier.reads_begun
        for read in list(tier.reads):
            read.fail(errno.ETIMEDOUT)
    assert tier.reads_begun == begun
    now = tiered.writeback.statistics()
    assert (now.tier_read_retries, now.tier_read_errors) == (0, begun)
    await trio.sleep(2)
    pages = "page 0" if count == 1 else "pages 2-4"
    (line,) = named(caplog)
    assert line.startswith(f"cannot be read: {pages} (the last: ")
    tier.hold_reads = False
    await tiered.check()


async def test_who_waits_for_a_window_that_was_too_late_is_too_late(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    await tiered.move_out()
    await tiered.read(0)
    tier.hold_reads = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, tiered, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(fails, tiered, 2)
        await wait_all_tasks_blocked()
        assert len(tier.reads) == 1
        tier.reads[0].fail(errno.ETIMEDOUT)
    assert tiered.device.reader.errors == 1


async def test_an_error_that_takes_as_long_is_the_last(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    """The bound is that of all tries together."""
    await tiered.move_out()
    tier.hold_reads = True
    timeout = find_parameter("tier_timeout")
    for seconds, tries in ((TIER_TIMEOUT_S, 2), (10.0, 1)):
        timeout.set(tiered.device, str(int(seconds)))
        begun = tier.reads_begun
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, tiered, 0)
            for _ in range(tries):
                await trio.sleep(20)
                tier.reads[0].fail()
        assert tier.reads_begun == begun + tries


def test_tiers_are_told_also_those_that_come_later(tiered: Tiered, tier: FakeTier) -> None:
    assert tier.timeout_s == TIER_TIMEOUT_S
    find_parameter("tier_timeout").set(tiered.device, "10")
    assert tier.timeout_s == 10.0
    later = FakeTier(4, "later")
    tiered.device.add_tier(later)
    assert later.timeout_s == 10.0


async def test_pages_are_named_once_and_together(
    tiered: Tiered,
    tier: FakeTier,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    await tiered.move_out()
    tier.fail_reads = True
    async with trio.open_nursery() as nursery:
        for page in (7, 3, 0, 4):
            nursery.start_soon(partial(fails, tiered, page))
    await fails(tiered, 3)
    await trio.sleep(2)
    (line,) = named(caplog)
    assert line.startswith("cannot be read: pages 0, 3-4, 7 ")
    await fails(tiered, 3)
    await trio.sleep(2)
    assert len(named(caplog)) == 1
    await trio.sleep(100)
    await fails(tiered, 3)
    await trio.sleep(2)
    assert named(caplog)[1].startswith("cannot be read: page 3 ")
