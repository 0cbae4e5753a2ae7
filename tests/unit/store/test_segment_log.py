"""The segment log: append, seal, count what lives, free."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.codecs.registry import LZ4
from fuseswap.errors import CorruptData, PoolFull
from fuseswap.store.frame_pool import CLEANER_RESERVE
from fuseswap.store.geometry import Geometry
from fuseswap.store.object_size import OBJECT_OVERHEAD, OWNER_BYTES, footprint
from fuseswap.store.segment_entry import SegmentState, Stream
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_word import offset_of, segment_of
from fuseswap.units import MIB, NO_SEGMENT, PAGE_SIZE, SEGMENT_BYTES, PageNumber, SegmentId
from tests.support import pages
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory

FIRST, SECOND = SegmentId(1), SegmentId(2)

# A page takes 4108 bytes, and the directory ends at a multiple of 4: the last object leaves none.
RAW_BYTES = footprint(PAGE_SIZE)
COUNT = SEGMENT_BYTES // RAW_BYTES
LAST = SEGMENT_BYTES % RAW_BYTES - OBJECT_OVERHEAD
FULL = [PAGE_SIZE] * COUNT + [LAST]


@pytest.fixture
def log(memory: SharedMemory) -> SegmentLog:
    return SegmentLog(memory.attach())


def append(log: SegmentLog, owner: int, length: int, stream: Stream = Stream.STORE) -> int:
    """Append ``length`` bytes; return the slot word."""
    return log.append(log.heads[stream], PageNumber(owner), bytes(length), 0, LZ4)


def fill(log: SegmentLog, owner: int) -> list[int]:
    """Append objects that fill one segment to the last byte; return their slot words."""
    words = [append(log, owner, length) for length in FULL]
    assert len({segment_of(word) for word in words}) == 1
    return words


def test_objects_stand_one_after_the_other(memory: SharedMemory) -> None:
    state = memory.attach()
    log = SegmentLog(state)
    head = log.heads[Stream.STORE]
    locations = [
        log.append(head, PageNumber(40 + n), bytes([n]) * length, n, LZ4)
        for n, length in enumerate((5, 9))
    ]
    first, second = (offset_of(location) for location in locations)
    assert (first, second) == (0, 16)
    base = log.table.bases[segment_of(locations[1])]
    assert bytes(state.arena.buffer[base + second : base + second + 13]) == (
        b"\x01\0\0\0" + b"\x01" * 9
    )
    assert log.table.bounds_of(FIRST) == (32, SEGMENT_BYTES - 2 * OWNER_BYTES)


def test_the_directory_lists_owners_newest_first(log: SegmentLog) -> None:
    for owner in (7, 2**32 - 1, 7, 0):
        append(log, owner, 100)
    assert list(log.owners(FIRST)) == [0, 7, 2**32 - 1, 7]


def test_segment_0_is_never_used(log: SegmentLog) -> None:
    assert segment_of(append(log, 0, 10)) == 1
    assert not log.table.exists(NO_SEGMENT)
    assert log.table.exists(FIRST)
    assert not log.table.exists(SECOND)
    assert not log.table.exists(SegmentId(2**24 - 1))


def test_a_full_segment_is_sealed_and_the_next_one_opened(log: SegmentLog) -> None:
    assert segment_of(fill(log, 1)[0]) == 1
    tail = SEGMENT_BYTES - len(FULL) * OWNER_BYTES
    assert log.table.bounds_of(FIRST) == (tail, tail)
    assert log.table.state_of(FIRST) is SegmentState.OPEN
    assert segment_of(append(log, 2, 1)) == 2
    assert (log.table.state_of(FIRST), log.table.state_of(SECOND)) == (
        SegmentState.SEALED,
        SegmentState.OPEN,
    )


def test_an_object_one_byte_too_long_goes_to_the_next_segment(log: SegmentLog) -> None:
    for length in FULL[:-1]:
        append(log, 1, length)
    assert segment_of(append(log, 2, LAST + 1)) == 2
    for length in FULL[:-2]:
        append(log, 3, length)
    assert segment_of(append(log, 4, PAGE_SIZE - OBJECT_OVERHEAD - 1)) == 2


def test_ages_follow_the_order_of_opening(log: SegmentLog) -> None:
    for owner in range(3):
        fill(log, owner)
    sequences = [log.table.sequence_of(SegmentId(segment)) for segment in (1, 2, 3)]
    sealed = [log.table.sealed_at(SegmentId(segment)) for segment in (1, 2, 3)]
    assert sequences == [1, 2, 3]
    assert 0 < sealed[0] <= sealed[1]
    assert sealed[2] == 0  # still open


def test_each_stream_has_its_own_segment(log: SegmentLog) -> None:
    streams = (Stream.STORE, Stream.INCOMPRESSIBLE, Stream.STORE)
    assert [segment_of(append(log, 1, 10, stream)) for stream in streams] == [1, 2, 1]


def test_live_counts_follow_append_and_release(log: SegmentLog) -> None:
    first = append(log, 1, 100)
    append(log, 2, 50)
    assert (log.table.live[1], log.table.live_bytes[1]) == (2, footprint(100) + footprint(50))
    assert (log.codec_pages[LZ4], log.codec_bytes[LZ4]) == (2, 150)
    log.release(first)
    assert (log.codec_pages[LZ4], log.codec_bytes[LZ4]) == (1, 50)
    assert (log.table.live[1], log.table.live_bytes[1]) == (1, footprint(50))
    assert log.table.segments() == [1]


def test_the_last_release_frees_a_sealed_segment(log: SegmentLog) -> None:
    first = fill(log, 1)
    fill(log, 2)
    for word in first:
        log.release(word)
    assert log.table.state_of(FIRST) is SegmentState.FREE
    assert (log.table.bases[1], log.table.live[1], log.table.live_bytes[1]) == (-1, 0, 0)
    assert (log.table.segments(), log.table.in_use, log.frames.in_use) == ([2], 1, 1)


def test_the_last_release_frees_the_open_segment_too(log: SegmentLog) -> None:
    log.release(append(log, 1, 10))
    assert log.table.state_of(FIRST) is SegmentState.FREE
    assert log.heads[Stream.STORE].segment == 0
    assert log.table.in_use == 0
    append(log, 2, 10)
    assert log.table.in_use == 1


def test_ids_are_used_again(log: SegmentLog) -> None:
    for owner in range(50):
        words = fill(log, owner)
        assert segment_of(words[0]) < 9
        for word in words:
            log.release(word)
    assert log.table.newest_sequence == 50


def test_full_refuses_changes_nothing_and_still_takes_what_fits(log: SegmentLog) -> None:
    log.frames.set_limit(1 + CLEANER_RESERVE)
    for length in FULL[:-1]:
        append(log, 1, length)
    before = (
        log.table.bounds_of(FIRST),
        list(log.table.live),
        list(log.table.live_bytes),
        log.frames.in_use,
    )
    with pytest.raises(PoolFull):
        append(log, 2, LAST + 1)
    assert (
        log.table.bounds_of(FIRST),
        list(log.table.live),
        list(log.table.live_bytes),
        log.frames.in_use,
    ) == before
    assert segment_of(append(log, 3, LAST - 500)) == 1


def test_no_free_segment_id_costs_no_frame(
    make_memory: Callable[[Geometry], SharedMemory],
) -> None:
    log = SegmentLog(make_memory(Geometry(512, segment_count=3, frame_count=8)).attach())
    assert [segment_of(fill(log, owner)[0]) for owner in range(2)] == [1, 2]
    with pytest.raises(PoolFull):
        append(log, 3, PAGE_SIZE)
    assert log.frames.in_use == log.table.in_use == 2


def test_sealed_bytes_never_change(memory: SharedMemory) -> None:
    cache = memory.attach_cache()
    for page in range(300):
        cache.store(page, pages.incompressible(page))
    log = cache.log
    assert log.table.state_of(FIRST) is SegmentState.SEALED
    base = log.table.bases[1]
    arena = memory.attach().arena.buffer
    sealed = bytes(arena[base : base + SEGMENT_BYTES])
    for page in range(0, 250, 2):
        cache.store(page, pages.compressible(page))
        cache.load(page + 1)
        cache.invalidate_page(page // 2)
    assert log.table.live[1] > 0
    assert bytes(arena[base : base + SEGMENT_BYTES]) == sealed


def test_freed_segments_return_their_memory(memory: SharedMemory, cache: FrontedCache) -> None:
    for page in range(1024):
        cache.store(page, pages.incompressible(page))
    assert memory.allocated_bytes("arena") == 5 * MIB
    cache.invalidate_area(0, 1280)
    cache.log.frames.trim(0)
    assert memory.allocated_bytes("arena") == 0
    assert cache.log.table.segments() == []


def test_a_lost_segment_holds_its_id_until_no_page_needs_it(memory: SharedMemory) -> None:
    """Whoever got the id would be read as those pages."""
    old = memory.attach_cache()
    for page in range(2):
        old.store(page, pages.compressible(page))
    old.log.table.entries[4] ^= 0b11 << 32  # two bits of the location
    cache = memory.attach_cache()
    assert cache.log.table.state_of(FIRST) is SegmentState.LOST
    for page in range(2):
        with pytest.raises(CorruptData, match="no such segment"):
            cache.load(page)
    cache.store(0, pages.compressible(9))
    assert cache.log.table.state_of(SECOND) is SegmentState.OPEN
    cache.invalidate_page(1)
    assert cache.log.table.state_of(FIRST) is SegmentState.FREE
    assert cache.load(0) == pages.compressible(9)
    check_invariants(memory.attach_cache())


def test_the_only_segment_is_found_though_its_sequence_lost_its_bit(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    old.store(0, pages.compressible(0))
    old.log.table.entries[6] ^= 1  # it was 1
    assert memory.attach_cache().load(0) == pages.compressible(0)


@pytest.mark.parametrize("bit", range(64))
def test_a_running_worker_frees_what_it_holds_and_nothing_else(
    memory: SharedMemory, bit: int
) -> None:
    """Given back by a location with a wrong bit, a frame would have two segments."""
    cache = memory.attach_cache()
    for page in range(600):
        cache.store(page, pages.incompressible(page))
    cache.log.table.entries[4] ^= 1 << bit
    cache.invalidate_area(0, 300)
    check_invariants(cache)
    assert cache.load(599) == pages.incompressible(599)
