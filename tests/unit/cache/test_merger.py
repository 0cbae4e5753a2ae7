"""A sweep keeps one object of what is stored twice, whatever happens between its steps."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from trio.testing import wait_all_tasks_blocked

from fuseswap.cache.codecs import RAW
from fuseswap.cache.dedup import Mode
from fuseswap.cache.merger import STEP_OBJECTS, Merger
from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.slots import REFERENCED
from fuseswap.cache.state import Geometry
from fuseswap.demand import Demand
from fuseswap.units import MIB
from tests import pages
from tests.cleaned import ROOMY, Cleaned
from tests.fake_tier import FakePlaceFile, FakeTier
from tests.invariants import StoredObject, check_invariants
from tests.page_actions import Action, each_action, each_blind_action
from tests.stores import SharedMemory
from tests.tiered import Tiered, dense

COPIES = 1000  # of page N the copy is page COPIES + N
COUNT = 100


def object_of(cache: CompressedCache, page: int) -> StoredObject:
    return StoredObject.of(page, cache.slots.get(page))


def is_merged(cache: CompressedCache, page: int, twin: int) -> bool:
    one, other = object_of(cache, page), object_of(cache, twin)
    return (one.segment, one.offset) == (other.segment, other.offset)


def begin(cache: CompressedCache, *stored: tuple[int, bytes]) -> Merger:
    """Store so that nothing is looked for, then begin a sweep."""
    cache.dedup.set_switch("off")
    for page, data in stored:
        cache.store(page, data)
    cache.dedup.set_switch("on")
    return Merger(cache)


def sweep(merger: Merger) -> None:
    while merger.busy:
        merger.step()


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


def pairs(cleaned: Cleaned) -> Merger:
    """Pages and their copies, each kind in a sealed segment of its own."""
    cleaned.cache.dedup.set_switch("off")
    for first in (0, COPIES):
        for page in range(COUNT):
            cleaned.store(first + page, seed=page)
        for head in cleaned.log.heads:
            cleaned.log.seal(head)
    cleaned.cache.dedup.set_switch("on")
    return Merger(cleaned.cache)


# -- what is merged --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compressible", "incompressible"])
def test_what_is_stored_twice_is_kept_once(cache: CompressedCache, name: str) -> None:
    copies = [(page, pages.CORPUS[name]) for page in (0, 7, 600, 1279)]
    merger = begin(cache, *copies)
    bytes_before = cache.statistics().compr_data_size
    sweep(merger)
    now = cache.statistics()
    assert (merger.merged_pages, now.duplicate_pages, now.stored_pages) == (3, 3, 4)
    assert now.compr_data_size == bytes_before // 4
    assert all(cache.load(page) == data for page, data in copies)


def test_a_sweep_tells_the_index_of_all_there_is(cache: CompressedCache) -> None:
    sweep(begin(cache, *((page, pages.compressible(page)) for page in range(500))))
    for page in range(500):
        cache.store(700 + page, pages.compressible(page))
    assert cache.statistics().duplicate_pages > 450  # each was asked for once, and is in a bucket


def test_what_is_one_object_already_stays(cache: CompressedCache) -> None:
    for page in range(4):
        cache.store(page, pages.compressible(page // 2))
    merger = begin(cache)
    before = cache.slots.words[:4].tolist()
    sweep(merger)
    assert cache.slots.words[:4].tolist() == before
    assert merger.merged_pages == 0


def test_two_groups_of_pages_become_one(cache: CompressedCache) -> None:
    same = pages.compressible(1)
    cache.store(0, same)
    cache.store(1, same)
    begin(cache, (2, same))
    cache.store(3, same)  # finds 2
    cache.dedup.index.shrink(0)
    cache.dedup.set_switch("off")
    merger = begin(cache)
    assert object_of(cache, 0).place != object_of(cache, 2).place or not is_merged(cache, 0, 2)
    sweep(merger)
    assert all(is_merged(cache, 0, page) for page in range(4))
    assert cache.statistics().duplicate_pages == 3


@pytest.mark.parametrize("better", [0, 1])
def test_the_smaller_object_stays(cache: CompressedCache, better: int) -> None:
    same = pages.hexadecimal(1)
    cache.dedup.set_switch("off")
    for page in range(2):
        cache.set_compressor("zstd:9" if page == better else "lz4")
        cache.store(page, same)
    merger = begin(cache)
    smaller = object_of(cache, better)
    assert smaller.length < object_of(cache, 1 - better).length
    sweep(merger)
    assert [object_of(cache, page).place for page in range(2)] == [smaller.place] * 2


def test_a_larger_object_with_several_pages_is_not_left_by_one(cache: CompressedCache) -> None:
    same = pages.hexadecimal(1)
    cache.dedup.set_switch("on")
    cache.store(0, same)
    cache.store(1, same)
    cache.dedup.set_switch("off")
    cache.set_compressor("zstd:9")
    merger = begin(cache, (2, same))
    sweep(merger)
    assert all(is_merged(cache, 0, page) for page in (1, 2))


@pytest.mark.parametrize("loaded", [{0}, {1}, {0, 1}, set()])
def test_each_page_keeps_its_r_bit(cache: CompressedCache, loaded: set[int]) -> None:
    merger = begin(cache, *((page, pages.compressible(1)) for page in range(2)))
    for page in loaded:
        cache.load(page)
    sweep(merger)
    assert merger.merged_pages == 1
    assert {page for page in range(2) if cache.slots.get(page) & REFERENCED} == loaded


def test_the_last_page_of_a_segment_frees_it(cleaned: Cleaned) -> None:
    merger = pairs(cleaned)
    assert cleaned.log.segments_in_use == 2
    sweep(merger)
    assert cleaned.log.segments_in_use == 1
    cleaned.check()


def test_the_only_page_of_an_open_segment(cache: CompressedCache) -> None:
    merger = begin(cache, (0, pages.compressible(1)))
    cache.log.seal(cache.log.heads[0])
    begin(cache, (1, pages.compressible(1)))
    sweep(merger)
    assert is_merged(cache, 0, 1)
    cache.store(2, pages.compressible(2))
    assert cache.load(2) == pages.compressible(2)


# -- what is not -----------------------------------------------------------------------


def test_fills_are_left_alone(cache: CompressedCache) -> None:
    fills = [pages.ZERO, pages.filled(pages.FITS), pages.filled(pages.FITS_NOT)] * 2
    merger = begin(cache, *enumerate(fills))
    before = cache.slots.words[:6].tolist()
    sweep(merger)
    assert cache.slots.words[:6].tolist() == before


def test_what_is_corrupt_is_not_merged_and_not_reported(
    memory: SharedMemory, make_memory: Callable[[Geometry], SharedMemory]
) -> None:
    cache = memory.attach_cache()
    merger = begin(cache, *((page, pages.compressible(1)) for page in range(3)))
    first = object_of(cache, 0)
    arena = memory.attach().arena.buffer
    arena[cache.log.bases[first.segment] + first.offset + 20] ^= 1
    cache.slots.words[1] ^= 1 << 30
    sweep(merger)
    assert merger.merged_pages == 0
    assert cache.statistics().checksum_errors == 0
    assert cache.load(2) == pages.compressible(1)


def test_other_contents_with_the_same_digest_are_not_merged(
    cache: CompressedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseswap.cache.merger._digest", lambda data: b"digested")
    merger = begin(cache, *((page, pages.compressible(page)) for page in range(20)))
    sweep(merger)
    assert merger.merged_pages == 0


def test_an_object_with_too_many_pages_is_kept_twice(
    cache: CompressedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseswap.cache.references.MOST", 3)
    sweep(begin(cache, *((page, pages.compressible(1)) for page in range(10))))
    assert cache.statistics().duplicate_pages == 7  # 4, 4 and 2 pages


def test_whatever_the_index_holds_nothing_wrong_is_merged(
    memory: SharedMemory, cache: CompressedCache
) -> None:
    stored = [(page, pages.compressible(page % 150)) for page in range(300)]
    merger = begin(cache, *stored)
    chance = random.Random(3)
    index = memory.attach().index.buffer
    while merger.busy:
        merger.step()
        for at in range(4, cache.dedup.index.allocated_bytes, 8):
            index[at : at + 4] = chance.choice((chance.randrange(300), 2**32 - 1)).to_bytes(
                4, "little"
            )
    check_invariants(cache)
    assert all(cache.load(page) == data for page, data in stored)


def test_without_memory_for_the_index_it_ends(
    cache: CompressedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(offset: int, length: int) -> None:
        raise OSError(28, "no space")

    merger = begin(cache, *((page, pages.compressible(1)) for page in range(40)))
    monkeypatch.setattr(cache.dedup.index._region, "populate", refuse)
    sweep(merger)
    assert merger.merged_pages == 0


# -- the walk --------------------------------------------------------------------------


def test_a_step_is_bounded_and_says_what_is_left(cache: CompressedCache) -> None:
    merger = begin(cache, *((page, pages.incompressible(page)) for page in range(0, 1280, 4)))
    assert merger.unswept_pages == 3 * 512
    seen = []
    while merger.busy:
        before = cache.dedup.sweep_at
        merger.step()
        after = cache.dedup.sweep_at if merger.busy else 1280
        assert before < after <= before + 4 * STEP_OBJECTS
        seen.append(merger.unswept_pages)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 0


def test_holes_are_passed_without_a_touch(make_memory: Callable[[Geometry], SharedMemory]) -> None:
    memory = make_memory(Geometry(page_count=1 << 22, segment_count=9, frame_count=8))
    cache = memory.attach_cache()
    merger = begin(cache, *((page, pages.compressible(1)) for page in (5, 3_000_000, 1 << 21)))
    table = memory.allocated_bytes("slots")
    for _ in range((1 << 22) // 512 // 512 + 6):
        merger.step()
    assert not merger.busy
    assert merger.merged_pages == 2
    assert memory.allocated_bytes("slots") == table


def test_an_empty_device_is_swept_at_once(cache: CompressedCache) -> None:
    merger = begin(cache)
    merger.step()
    assert not merger.busy


# -- between two steps -----------------------------------------------------------------


@each_action
@pytest.mark.parametrize("steps", [0, 1, 5, 9])
def test_pages_change_between_two_steps(tierless: Tiered, action: Action, steps: int) -> None:
    cache, merger = tierless.cache, tierless.device.merging.merger
    cache.dedup.set_switch("off")
    for page in range(COUNT):
        for first in (0, COPIES):
            tierless.store(first + page, dense(page))
    cache.dedup.set_switch("on")
    for _ in range(steps):
        merger.step()
    for page in (0, 3, STEP_OBJECTS, 50, COPIES + 1, COPIES + 3, COPIES + 70):
        action(tierless, page)
    sweep(merger)
    check_invariants(cache)
    assert all(cache.load(page) == data for page, data in tierless.expected.items())
    assert cache.statistics().duplicate_pages >= COUNT - 7


def test_a_page_and_its_whole_cluster_go(cleaned: Cleaned) -> None:
    merger = pairs(cleaned)
    for _ in range(3):
        merger.step()
    for page in range(COUNT):
        cleaned.discard(page)
    sweep(merger)
    assert merger.merged_pages == 0
    cleaned.check()


@pytest.mark.parametrize("victim", [0, COPIES])
@pytest.mark.parametrize("steps", [1, 4, 7, 10])
def test_a_segment_that_is_being_cleaned_loses_pages_and_gets_none(
    cleaned: Cleaned, victim: int, steps: int
) -> None:
    merger = pairs(cleaned)
    segment = object_of(cleaned.cache, victim).segment
    for _ in range(steps):
        merger.step()
    cleaned.cleaner.begin(segment)
    cleaned.cleaner.step()
    held = set(cleaned.pages_of(segment))
    while merger.busy:
        merger.step()
        assert set(cleaned.pages_of(segment)) <= held
        cleaned.check()
    while cleaned.cleaner.busy:
        cleaned.cleaner.step()
    assert cleaned.cleaner.statistics().given_up == 0
    assert cleaned.log.duplicate_pages == COUNT
    cleaned.check()


def test_cleaning_and_merging_take_turns(cleaned: Cleaned) -> None:
    merger = pairs(cleaned)
    for page in range(0, COUNT, 3):
        cleaned.discard(page)
    while merger.busy:
        merger.step()
        cleaned.cleaner.step()
        cleaned.check()


async def test_what_is_on_the_tier_is_passed_over(tiered: Tiered) -> None:
    tiered.cache.dedup.set_switch("off")
    moved = await tiered.move_out()
    merger = begin(tiered.cache)
    tiered.cache.pool_limit_bytes += MIB
    for page in moved[:20]:
        tiered.store(3000 + page, tiered.expected[page])
    sweep(merger)
    assert merger.merged_pages == 0
    assert tiered.on_tier() == moved
    await tiered.check()


@each_blind_action
@pytest.mark.parametrize("succeeds", [True, False])
async def test_while_a_segment_is_being_written(
    tiered: Tiered, tier: FakeTier, nursery: object, action: Action, succeeds: bool
) -> None:
    """Some of its pages leave it, and pages of another come to it, before it moves."""
    tiered.cache.dedup.set_switch("off")
    for first in (0, COPIES):
        for page in range(250):
            tiered.store(first + page, dense(page))
        for head in tiered.log.heads:
            tiered.log.seal(head)
    tiered.cache.dedup.set_switch("on")
    tier.hold_writes = True
    start = nursery.start_soon  # type: ignore[attr-defined]
    start(tiered.writeback.run)
    tiered.writeback.ask(Demand.parse("all"))
    await wait_all_tasks_blocked()
    assert tier.writes
    merger = tiered.device.merging.merger
    while merger.busy and merger.merged_pages < 20:
        merger.step()
    assert merger.busy
    for page in (0, 30, COPIES + 2, COPIES + 200):
        action(tiered, page)
    for write in list(tier.writes):
        (write.finish if succeeds else write.fail)()
    await wait_all_tasks_blocked()
    sweep(merger)
    await tiered.check()


@each_blind_action
async def test_while_a_segment_is_evicted_in_place(
    placed: Tiered, places: FakePlaceFile, nursery: object, action: Action
) -> None:
    placed.cache.dedup.set_switch("off")
    for first in (0, COPIES):
        for page in range(COUNT):
            placed.store(first + page, dense(page))
        for head in placed.log.heads:
            placed.log.seal(head)
    placed.cache.dedup.set_switch("on")
    places.hold_writes = True
    placed.writeback.writeback_batch_size = 1
    start = nursery.start_soon  # type: ignore[attr-defined]
    start(placed.writeback.run)
    placed.writeback.ask(Demand.parse("all"))
    await wait_all_tasks_blocked()
    assert places.writes
    merger = placed.device.merging.merger
    while merger.busy and merger.merged_pages < 20:
        merger.step()
    assert merger.busy
    for page in (0, 30, COPIES + 2, COPIES + 90):
        action(placed, page)
    places.hold_writes = False
    while places.writes:
        for write in list(places.writes):
            write.finish()
        await wait_all_tasks_blocked()
    sweep(merger)
    await placed.check()


def test_a_raw_page_that_was_never_tried_is_replaced_by_a_compressed_one(
    cache: CompressedCache,
) -> None:
    cache.dedup.set_switch("off")
    cache.store(0, pages.incompressible(0))
    cache.store(0, pages.compressible(1))  # not tried, since the last one did not compress
    merger = begin(cache, (1, pages.compressible(1)))
    assert object_of(cache, 0).codec == RAW + 1
    sweep(merger)
    assert is_merged(cache, 0, 1)
    assert cache.statistics().raw_pages == 0


# -- the next worker -------------------------------------------------------------------


def test_a_worker_that_ends_half_way_leaves_what_the_next_one_merges(memory: SharedMemory) -> None:
    stored = [(page, pages.compressible(page % 300)) for page in range(600)]
    merger = begin(memory.attach_cache(), *stored)
    while merger.merged_pages < 100:
        merger.step()
    assert merger.merged_pages < 200
    cache = memory.attach_cache()
    check_invariants(cache)
    cache.dedup.set_switch("on")
    sweep(Merger(cache))
    assert cache.statistics().duplicate_pages > 290
    assert all(cache.load(page) == data for page, data in stored)
    check_invariants(cache)


def test_there_is_no_sweep_while_a_worker_counts(memory: SharedMemory) -> None:
    begin(memory.attach_cache(), *((page, pages.compressible(page % 9)) for page in range(90)))
    cache = CompressedCache(memory.attach(), lazy=True)
    cache.dedup.set_switch("on")
    merger = Merger(cache)
    seen = [(merger.busy, cache.dedup.mode)]
    while cache.adopt_some():
        seen.append((merger.busy, cache.dedup.mode))
    assert set(seen) == {(False, Mode.OFF)}
    assert cache.dedup.mode is Mode.ON
    sweep(merger)
    assert merger.merged_pages == 81
