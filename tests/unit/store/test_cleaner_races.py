"""The cleaner: what may happen between two steps, eviction, and corruption."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from fuseswap.errors import CorruptData
from fuseswap.store.geometry import Geometry
from fuseswap.store.segment_entry import SegmentState, Stream
from fuseswap.store.slot_word import OBJECT, REFERENCED
from fuseswap.units import MIB, SEGMENT_BYTES, Location, PageNumber, SegmentId
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.log_invariants import StoredObject, check_invariants
from tests.support.memory_stores import SharedMemory


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


# -- between two steps -----------------------------------------------------------------


def begun(cleaned: Cleaned) -> SegmentId:
    """A segment of which one step is done."""
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.9)
    assert cleaned.cleaner.step()
    assert cleaned.cleaner.busy
    return segment


def test_what_is_overwritten_is_not_copied(cleaned: Cleaned) -> None:
    segment = begun(cleaned)
    for page in cleaned.pages_of(segment):
        cleaned.store(page, seed=page + 5000)
    copied = cleaned.cleaner.statistics().objects_copied
    cleaned.clean_up()
    assert cleaned.cleaner.statistics().objects_copied == copied
    cleaned.check()


def test_what_is_discarded_is_not_copied(cleaned: Cleaned) -> None:
    segment = begun(cleaned)
    for page in cleaned.pages_of(segment)[::2]:
        cleaned.discard(page)
    cleaned.clean_up()
    assert cleaned.log.table.live[segment] == 0
    cleaned.check()


def test_what_is_loaded_is_copied_all_the_same(cleaned: Cleaned) -> None:
    segment = begun(cleaned)
    for page in cleaned.pages_of(segment):
        cleaned.cache.load(page)
    cleaned.clean_up()
    assert cleaned.log.table.live[segment] == 0
    cleaned.check()


def test_a_segment_that_dies_is_forgotten(cleaned: Cleaned) -> None:
    segment = begun(cleaned)
    for page in cleaned.pages_of(segment):
        cleaned.discard(page)
    assert not cleaned.cleaner.step()
    assert not cleaned.cleaner.busy
    cleaned.check()


def test_another_segment_of_the_same_id_is_not_taken_for_it(cleaned: Cleaned) -> None:
    segment = begun(cleaned)
    for page in cleaned.pages_of(segment):
        cleaned.discard(page)
    assert cleaned.seal_one() == segment
    assert not cleaned.cleaner.step()
    assert (cleaned.cleaner.busy, cleaned.log.table.state_of(segment)) == (
        False,
        SegmentState.SEALED,
    )
    cleaned.check()


def test_a_segment_that_left_for_a_tier_is_forgotten(cleaned: Cleaned) -> None:
    segment = begun(cleaned)
    cleaned.log.relocate(segment, Location(0, 0))
    assert not cleaned.cleaner.step()
    assert not cleaned.cleaner.busy
    check_invariants(cleaned.cache)


# -- no frame --------------------------------------------------------------------------


def test_without_a_frame_to_copy_to_it_waits_and_goes_on_later(cleaned: Cleaned) -> None:
    segment, other = cleaned.seal_one(), cleaned.seal_one()
    cleaned.thin_out(segment, 0.5)
    cleaned.cache.pool_limit_bytes = 2 * MIB
    for _ in range(2):
        assert not cleaned.cleaner.step()
        assert cleaned.cleaner.busy
    cleaned.check()
    for page in cleaned.pages_of(other):
        cleaned.discard(page)
    cleaned.clean_up()
    assert cleaned.log.table.live[segment] == 0
    assert not cleaned.cleaner.busy
    cleaned.check()


def test_stores_leave_the_frame_it_needs(cleaned: Cleaned) -> None:
    cleaned.cache.pool_limit_bytes = 4 * MIB
    segments = [cleaned.seal_one() for _ in range(3)]
    assert cleaned.log.frames.available == 0
    for segment in segments:
        cleaned.thin_out(segment, 0.6)
    cleaned.clean_up()
    assert (cleaned.log.frames.in_use, cleaned.log.frames.available) == (2, 1)
    cleaned.check()


# -- gathering what is cold ------------------------------------------------------------


def evict(cleaned: Cleaned, segment: SegmentId, *, second_chance: bool = True) -> None:
    cleaned.cleaner.begin_eviction(segment, second_chance=second_chance)
    while cleaned.cleaner.busy:
        assert cleaned.cleaner.step()


def streams_of(cleaned: Cleaned, pages: list[int]) -> set[int]:
    """Streams that were filled with ``pages``."""
    by_segment = {head.segment: head.stream for head in cleaned.log.heads}
    get = cleaned.cache.slots.get
    return {by_segment[StoredObject.of(page, get(PageNumber(page))).segment] for page in pages}


def test_cold_objects_are_gathered_and_loaded_ones_spared(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.5)
    cold = cleaned.pages_of(segment)
    loaded = [cold.pop(n) for n in (3, 10, 50)]
    for page in loaded:
        cleaned.cache.load(page)
    evict(cleaned, segment)
    assert streams_of(cleaned, cold) == {Stream.EVICTED}
    assert streams_of(cleaned, loaded) == {Stream.SURVIVORS}
    assert cleaned.log.eviction_queue.leaves_as_it_is(cleaned.log.heads[Stream.EVICTED].segment)
    assert not cleaned.log.eviction_queue.leaves_as_it_is(
        cleaned.log.heads[Stream.SURVIVORS].segment
    )
    cleaned.check()


def test_they_are_spared_once(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    loaded = cleaned.pages_of(segment)[:20]
    for page in loaded:
        cleaned.cache.load(page)
    evict(cleaned, segment)
    assert not any(cleaned.cache.slots.get(PageNumber(page)) & REFERENCED for page in loaded)
    survivors = cleaned.log.heads[Stream.SURVIVORS]
    again = survivors.segment
    cleaned.log.seal(survivors)
    evict(cleaned, again)
    assert streams_of(cleaned, loaded) == {Stream.EVICTED}


def test_without_a_second_chance_all_is_gathered(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    found = cleaned.pages_of(segment)
    for page in found:
        cleaned.cache.load(page)
    evict(cleaned, segment, second_chance=False)
    assert streams_of(cleaned, found) == {Stream.EVICTED}
    cleaned.check()


# -- corruption ------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [0, 4095, 4096, 2**32 - 1])
def test_a_corrupt_directory_falls_back_to_the_slot_table(cleaned: Cleaned, owner: int) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.5)
    bound = cleaned.log.table.bounds_of(segment)[1]
    directory = cleaned.log.table.bases[segment] + bound
    count = (SEGMENT_BYTES - bound) // 4
    arena = cleaned.memory.attach().arena.buffer
    arena[directory : directory + 4 * count] = struct.pack("<I", owner) * count
    cleaned.clean_up()
    assert cleaned.log.table.live[segment] == 0
    assert cleaned.cleaner.statistics().given_up == 0
    cleaned.check()


@pytest.mark.parametrize("flip", [1 << 41, 1 << 25, 1, OBJECT, 1 << 63, 1 << 9 | 1 << 48])
def test_a_corrupt_word_makes_it_give_up_and_never_loop(cleaned: Cleaned, flip: int) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.3)
    bad = cleaned.pages_of(segment)[7]
    cleaned.cache.slots.words[bad] ^= flip
    cleaned.clean_up()
    now = cleaned.cleaner.statistics()
    assert (now.given_up, now.segments_cleaned, cleaned.cleaner.busy) == (1, 0, False)
    assert cleaned.log.table.live[segment] == 1
    assert cleaned.cleaner.victims.choose() == 0
    assert cleaned.log.eviction_queue.pop() == 0
    del cleaned.expected[bad]
    assert {page: cleaned.cache.load(page) for page in cleaned.expected} == cleaned.expected
    with pytest.raises(CorruptData):
        cleaned.cache.load(bad)


def test_a_given_up_segment_is_free_for_the_next_worker_once_its_page_is_gone(
    cleaned: Cleaned,
) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.1)
    bad = cleaned.pages_of(segment)[0]
    cleaned.cache.slots.words[bad] ^= 1
    cleaned.clean_up()
    cleaned.cache.invalidate_area(0, cleaned.cache.page_count)
    again = Cleaned(cleaned.memory)
    assert again.log.table.segments() == []
    check_invariants(again.cache)
