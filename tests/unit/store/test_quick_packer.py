"""Pages are compressed again on their way to the tier, and are the same pages."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.codecs.registry import LZ4, ZSTD
from fuseswap.codecs.zstd import parse_recompressor
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import StoredObject
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow

PAGES = 1200


async def move_out(tiered: Tiered, nursery: trio.Nursery, first: int = 0) -> set[int]:
    """Store, and have all of it written back; return the codecs of what is on the tier."""
    nursery.start_soon(tiered.writeback.run)
    for page in range(first, PAGES):
        tiered.store(page, pages.hexadecimal(page))
    tiered.writeback.ask(ReclaimRequest.parse("all"))
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == sorted(tiered.expected)
    return codecs_on_tier(tiered)


def codecs_on_tier(tiered: Tiered) -> set[int]:
    return {
        StoredObject.of(p, tiered.cache.slots.get(PageNumber(p))).codec for p in tiered.on_tier()
    }


async def test_what_leaves_is_compressed_harder(tiered: Tiered, nursery: trio.Nursery) -> None:
    assert await move_out(tiered, nursery) == {ZSTD}
    assert tiered.writeback.cleaner.statistics().recompressed_pages >= len(tiered.on_tier())
    await tiered.check()


async def test_there_is_no_time_for_it_while_a_store_waits(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    nursery.start_soon(tiered.writeback.run)
    tier.hold_writes = True
    page = 0
    while not tier.writes:  # until the pool is full, and a store waits for the first write
        nursery.start_soon(tiered.write, page, pages.hexadecimal(page))
        await wait_all_tasks_blocked()
        page += 1
    assert tiered.writeback.cleaner.statistics().recompressed_pages == 0
    tier.hold_writes = False
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert LZ4 in codecs_on_tier(tiered)
    await tiered.check()


async def test_it_can_be_switched_off(tiered: Tiered, nursery: trio.Nursery) -> None:
    find_parameter("recomp_algorithm").set(tiered.device, "none")
    assert await move_out(tiered, nursery) == {LZ4}
    assert tiered.writeback.cleaner.statistics().recompressed_pages == 0
    await tiered.check()


async def test_pages_that_gain_nothing_stay_as_they_are(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    await tiered.move_out()
    assert codecs_on_tier(tiered) == {LZ4}
    await tiered.check()


async def test_a_corrupt_page_leaves_as_it_is_and_stays_corrupt(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    tiered.store(0, pages.hexadecimal(0))
    found = StoredObject.of(0, tiered.cache.slots.get(PageNumber(0)))
    at = tiered.log.table.bases[found.segment] + found.offset + 100
    tiered.device.state.arena.buffer[at] ^= 4
    assert await move_out(tiered, nursery, first=1) == {LZ4, ZSTD}
    assert 0 in tiered.on_tier()
    assert StoredObject.of(0, tiered.cache.slots.get(PageNumber(0))).codec == LZ4
    with pytest.raises(CorruptData):
        await tiered.read(0)


@pytest.mark.parametrize("name", ["lz4", "", "zstd:0", "zstd:20", "hard", "None"])
def test_what_is_no_recompressor(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_recompressor(name)
