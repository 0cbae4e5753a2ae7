"""Orders that name pages: these leave for the tier, and what else lives beside them does not."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.errors import InvalidArgument
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_entry import Stream
from fuseswap.units import MIB, PageNumber
from tests.support.fake_tier import FakePlaceFile, FakeTier
from tests.support.page_actions import Action, each_blind_action
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered, dense

pytestmark = pytest.mark.slow

COUNT = 600  # pages, of two segments and a part


def ask(worker: Tiered, text: str) -> ReclaimRequest:
    request = ReclaimRequest.parse(text, leaves=True)
    worker.writeback.ask(request)
    return request


def store_two(worker: Tiered) -> tuple[list[int], list[int]]:
    """Pages of two programs, in turns: even and odd ones.  There is room for more."""
    worker.cache.pool_limit_bytes = TIERED.frame_count * MIB
    for page in range(COUNT):
        worker.store(page)
    return list(range(0, COUNT, 2)), list(range(1, COUNT, 2))


def text_of(pages: list[int]) -> str:
    return ",".join(map(str, pages))


async def test_of_two_programs_one_leaves(tiered: Tiered, nursery: trio.Nursery) -> None:
    ours, _ = store_two(tiered)
    nursery.start_soon(tiered.writeback.run)
    request = ask(tiered, f"pages={text_of(ours)}")
    await wait_all_tasks_blocked()
    assert str(request) == f"{len(ours)} pages: 3 of 3 segments"
    assert tiered.on_tier() == ours
    await tiered.check()


async def test_loaded_pages_leave_too(tiered: Tiered, nursery: trio.Nursery) -> None:
    ours, _ = store_two(tiered)
    for page in ours[::3]:
        tiered.cache.load(page)
    nursery.start_soon(tiered.writeback.run)
    ask(tiered, f"pages={text_of(ours)}")
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == ours


async def test_a_dense_segment_leaves_as_a_whole(tiered: Tiered, nursery: trio.Nursery) -> None:
    for page in range(COUNT):
        tiered.store(page)
    nursery.start_soon(tiered.writeback.run)
    whole = tiered.pages_of(tiered.segment_of(0))
    ask(tiered, f"pages=0-{whole[-1]}")
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == whole
    assert tiered.device.writeback.cleaner.statistics().objects_copied == 0


async def test_what_is_gathered_waits_for_the_last_order(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    """No order leaves a segment that is not full but the last one."""
    store_two(tiered)
    nursery.start_soon(tiered.writeback.run)
    for first in range(0, COUNT, 50):
        ask(tiered, f"pages={text_of(list(range(first, first + 50, 2)))} more")
        await wait_all_tasks_blocked()
    assert len(tiered.on_tier()) < COUNT // 2
    assert tiered.log.heads[Stream.EVICTED].segment
    request = ask(tiered, "pages=0")  # which is in there
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == list(range(0, COUNT, 2))
    assert tiered.entry.extents.in_use == 2
    assert str(request) == "1 pages: 1 of 1 segments"
    await tiered.check()


async def test_pages_that_share_an_object_leave_together(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    tiered.cache.dedup.set_switch("on")
    for page in range(40):
        tiered.store(page, dense(page % 20))
    for page in range(100, 140):
        tiered.store(page)
    nursery.start_soon(tiered.writeback.run)
    ask(tiered, "pages=30-39,100-109")
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == [*range(10, 20), *range(30, 40), *range(100, 110)]
    await tiered.check()


async def test_holes_and_pages_beyond_the_end_are_passed_over(
    tiered: Tiered, nursery: trio.Nursery
) -> None:
    tiered.store(5)
    tiered.store(6)
    nursery.start_soon(tiered.writeback.run)
    end = tiered.cache.page_count
    ask(tiered, f"pages=0-5,{end - 1}-{end + 9},4294967295")
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == [5]


async def test_a_tier_without_room_makes_it_wait(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    ours, _ = store_two(tiered)
    taken = [tiered.entry.take() for _ in range(EXTENTS)]
    nursery.start_soon(tiered.writeback.run)
    request = ask(tiered, f"pages={text_of(ours)}")
    await wait_all_tasks_blocked()
    assert str(request) == f"{len(ours)} pages: 0 of 3 segments"
    for place in taken:
        assert place is not None
        tiered.device.tiers.release(place, 0)
    tiered.device.room.call()
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == ours


@each_blind_action
@pytest.mark.parametrize("succeeds", [True, False])
async def test_pages_that_change_while_they_are_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, action: Action, succeeds: bool
) -> None:
    ours, _ = store_two(tiered)
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    ask(tiered, f"pages={text_of(ours)}")
    await wait_all_tasks_blocked()
    assert tier.writes
    for page in (0, 1, 2, 100, 101, 598, 599):
        action(tiered, page)
    tier.hold_writes = False
    for write in list(tier.writes):
        (write.finish if succeeds else write.fail)()
    await wait_all_tasks_blocked()
    assert not set(tiered.on_tier()) - set(ours)
    await tiered.check()


async def test_in_place_they_alone_are_written(
    placed: Tiered, places: FakePlaceFile, nursery: trio.Nursery
) -> None:
    ours, _ = store_two(placed)
    placed.cache.load(4)
    nursery.start_soon(placed.writeback.run)
    request = ask(placed, f"pages={text_of(ours)}")
    await wait_all_tasks_blocked()
    assert placed.in_place() == ours
    assert str(request) == f"{len(ours)} pages: 3 of 3 segments"
    assert placed.log.eviction_queue.first(9), "the others are in line again"
    ask(placed, "all")
    await wait_all_tasks_blocked()
    assert placed.in_place() == list(range(COUNT))
    await placed.check()


async def test_in_place_nothing_is_pinned_where_all_have_gone(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    """They were overwritten between the look-up and their turn."""
    ours, others = store_two(placed)
    ask(placed, f"pages={text_of(ours[:100])}")
    for page in ours[:100]:
        placed.store(page, dense(page + 9000))
    nursery.start_soon(placed.writeback.run)
    await wait_all_tasks_blocked()
    assert placed.in_place() == []
    table = placed.log.table
    assert not any(table.is_pinned(placed.segment_of(page)) for page in others)


async def test_the_cleaner_leaves_alone_what_is_on_its_way(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    """It would copy what lives out of a sparse one, and the write be for nothing."""
    for page in range(3 * 266):
        tiered.store(page)
    tier.hold_writes = True
    nursery.start_soon(tiered.writeback.run)
    ask(tiered, "pages=0-19")
    await wait_all_tasks_blocked()
    assert len(tier.writes) == 1
    for page in range(20, 3 * 266):
        if page % 6:
            tiered.discard(page)
    tiered.device.room.call()
    await wait_all_tasks_blocked()
    assert tiered.device.writeback.cleaner.statistics().segments_cleaned
    tier.hold_writes = False
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert tiered.on_tier() == list(range(20))
    await tiered.check()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pages=0-4096", "an order names 4096 pages at most"),
        ("pages=1 max=3M", "'max=3M' is neither max=SIZE nor tier=NAME"),
        ("all more", "'more' is neither max=SIZE nor tier=NAME"),
    ],
)
def test_nonsense_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{reason}$"):
        ReclaimRequest.parse(text, leaves=True)


def test_what_stays_in_memory_has_no_pages() -> None:
    with pytest.raises(InvalidArgument, match="is none of all"):
        ReclaimRequest.parse("pages=1")


async def test_a_word_that_is_corrupt_is_left_alone(tiered: Tiered, nursery: trio.Nursery) -> None:
    store_two(tiered)
    page = PageNumber(8)
    word = tiered.cache.slots.get(page)
    tiered.cache.slots.words[page] = word ^ 1
    nursery.start_soon(tiered.writeback.run)
    ask(tiered, "pages=0-99")
    await wait_all_tasks_blocked()
    tiered.cache.slots.words[page] = word
    assert tiered.on_tier() == [one for one in range(100) if one != page]
    await tiered.check()
