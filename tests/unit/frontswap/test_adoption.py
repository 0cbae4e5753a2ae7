"""Recovery: a new cache over old memory derives what the old one knew."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest

from fuseswap.counting import zeros
from fuseswap.errors import CorruptData
from fuseswap.filesystem.swapfile import Swapfile
from fuseswap.frontswap.page_encoder import EncodingCounters
from fuseswap.store.frame_pool import CLEANER_RESERVE
from fuseswap.store.full_pool import FullPoolCounters
from fuseswap.store.geometry import Geometry
from fuseswap.store.segment_entry import SegmentState, Stream
from fuseswap.store.slot_word import SEGMENT_ID_SHIFT, with_check
from fuseswap.units import MIB, PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted


class Died(BaseException):
    """The worker is gone: nothing may catch it."""


def die(*arguments: object) -> bytes:
    raise Died


def dying_cache(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> FrontedCache:
    """A cache with pages 0 and 1, whose worker dies in its next append."""
    cache = memory.attach_cache()
    for page in range(2):
        cache.store(page, pages.compressible(page))
    monkeypatch.setattr(cache.cache, "_append", die)
    return cache


def busy(memory: SharedMemory) -> tuple[FrontedCache, dict[int, bytes]]:
    """A cache after 3000 stores and discards, and what is in it."""
    cache = memory.attach_cache()
    chance = random.Random(1)
    corpus = list(pages.CORPUS.values())
    expected: dict[int, bytes] = {}
    for step in range(3000):
        page = chance.randrange(1280)
        cache.encoder.set_compressor(chance.choice(("lz4", "zstd:1")))
        if step % 3:
            cache.store(page, data := chance.choice(corpus), replace=step % 2 == 0)
            expected[page] = data
        elif step % 5 == 0:
            cache.invalidate_page(page)
            expected.pop(page, None)
        else:
            cache.load(page)
    return cache, expected


def test_no_segment_is_freed_while_pages_of_it_may_be_uncounted(memory: SharedMemory) -> None:
    """The last one that was counted goes, and another one has yet to be found."""
    before = memory.attach_cache()
    before.store(0, pages.compressible(0))
    before.store(600, pages.compressible(600))
    after = fronted(memory.attach(), lazy=True)
    after.invalidate_page(0)
    assert after.load(600) == pages.compressible(600)
    after.frontswap.adopt_all()
    assert after.load(600) == pages.compressible(600)
    check_invariants(after)
    after.invalidate_page(600)
    assert after.log.table.in_use == 0


def known_segments(cache: FrontedCache) -> dict[int, tuple[int, int, int, tuple[int, int]]]:
    """Base, live objects, live bytes and extent of each segment in use."""
    log = cache.log
    return {
        segment: (
            log.table.bases[segment],
            log.table.live[segment],
            log.table.live_bytes[segment],
            log.table.bounds_of(segment),
        )
        for segment in log.table.segments()
    }


def test_everything_derived_is_the_same_afterwards(memory: SharedMemory) -> None:
    old, expected = busy(memory)
    old.log.frames.trim(0)
    new = memory.attach_cache()
    check_invariants(new)
    assert known_segments(new) == known_segments(old)
    assert new.slots.used == old.slots.used
    before, after = old.statistics(), new.statistics()
    for gauge in (
        "stored_pages",
        "same_filled_pages",
        "incompressible_pages",
        "orig_data_size",
        "compr_data_size",
        "pool_total_size",
        "metadata_bytes",
        "mem_used_total",
        "segments",
    ):
        assert getattr(after, gauge) == getattr(before, gauge), gauge
    assert (new.log.frames.in_use, new.log.frames.available) == (
        old.log.frames.in_use,
        old.log.frames.available,
    )
    assert {page: new.load(page) for page in expected} == expected


def test_counters_start_again_at_zero(memory: SharedMemory) -> None:
    old, _ = busy(memory)
    assert old.frontswap.statistics().duplicate_entry > 0
    new = memory.attach_cache()
    assert new.full_pool.counters == zeros(FullPoolCounters)
    assert new.encoder.counters == zeros(EncodingCounters)


def test_it_works_on_and_holds_the_invariants(
    make_memory: Callable[[Geometry], SharedMemory],
) -> None:
    memory = make_memory(Geometry(page_count=1280, segment_count=25, frame_count=24))
    _, expected = busy(memory)
    for generation in range(5):
        cache = memory.attach_cache()
        for page in range(generation, 1280, 7):
            cache.store(page, expected.setdefault(page, pages.compressible(page)))
        check_invariants(cache)
    assert {page: cache.load(page) for page in expected} == expected
    cache.invalidate_area(0, 1280)
    cache.log.frames.trim(0)
    assert memory.allocated_bytes("arena") == memory.allocated_bytes("slots") == 0


def test_the_open_segment_is_sealed_where_it_stood(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    old.store(0, pages.compressible(0))
    segment = old.log.heads[Stream.STORE].segment
    extent = old.log.table.bounds_of(segment)
    new = memory.attach_cache()
    assert new.log.table.state_of(segment) is SegmentState.SEALED
    assert new.log.table.bounds_of(segment) == extent
    assert new.log.table.sealed_at(segment) > 0
    new.store(1, pages.compressible(1))
    assert new.log.heads[Stream.STORE].segment not in (0, segment)
    assert new.log.table.sequence_of(new.log.heads[Stream.STORE].segment) == 2


def test_warm_frames_of_the_former_worker_are_returned(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    for page in range(512):
        old.store(page, pages.incompressible(page))
    old.invalidate_area(0, 510)
    old.log.frames.reserve(4)
    assert memory.allocated_bytes("arena") > MIB
    new = memory.attach_cache()
    assert memory.allocated_bytes("arena") == MIB
    assert new.log.frames.available == 7 - CLEANER_RESERVE


def test_a_worker_that_dies_in_a_store_leaves_a_hole_and_not_the_old_version(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Died):
        dying_cache(memory, monkeypatch).store(1, pages.compressible(9))
    new = memory.attach_cache()
    check_invariants(new)
    assert (new.load(0), new.load(1)) == (pages.compressible(0), None)


def test_a_worker_that_dies_while_it_compresses_leaves_a_hole(memory: SharedMemory) -> None:
    """The request was not answered; whoever sends it again has the page."""
    old = memory.attach_cache()
    old.store(1, pages.compressible(1))
    old.encoder._compress = die
    with pytest.raises(Died):
        old.store(1, pages.compressible(9))
    new = memory.attach_cache()
    check_invariants(new)
    assert new.load(1) is None


def test_a_worker_that_dies_in_a_replace_leaves_the_old_version(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Died):
        dying_cache(memory, monkeypatch).store(1, pages.compressible(9), replace=True)
    new = memory.attach_cache()
    check_invariants(new)
    assert new.load(1) == pages.compressible(1)


def test_a_partial_write_can_be_sent_again_after_its_worker_died(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dying_cache(memory, monkeypatch)
    size = 1280 * PAGE_SIZE
    write = (PAGE_SIZE + 100, memoryview(b"new"))
    with pytest.raises(Died):
        Swapfile(size, old.frontswap).write(*write)
    new = memory.attach_cache()
    Swapfile(size, new.frontswap).write(*write)
    expected = pages.compressible(1)
    assert new.load(1) == expected[:100] + b"new" + expected[103:]


def test_an_append_without_its_commit_is_dead_space(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    old.store(0, pages.compressible(0))
    old.log.append(old.log.heads[Stream.STORE], PageNumber(1), b"never committed", 0, 4)
    new = memory.attach_cache()
    check_invariants(new)
    assert new.load(1) is None
    assert new.load(0) == pages.compressible(0)


def test_a_segment_opened_for_nothing_is_free_again(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    old.log.append(old.log.heads[Stream.STORE], PageNumber(1), b"never committed", 0, 4)
    new = memory.attach_cache()
    check_invariants(new)
    assert new.log.table.segments() == []
    new.log.frames.trim(0)
    assert memory.allocated_bytes("arena") == 0


def test_a_word_cleared_before_its_object_was_released_frees_it(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    old.store(0, pages.compressible(0))
    old.store(1, pages.incompressible(1))
    old.slots.words[1] = 0  # the first half of an overwrite
    new = memory.attach_cache()
    check_invariants(new)
    assert (new.load(0), new.load(1)) == (pages.compressible(0), None)
    assert new.statistics().incompressible_pages == 0


def test_impossible_words_stay_errors_and_cost_nothing_else(
    memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    old = memory.attach_cache()
    for page in range(6):
        old.store(page, pages.compressible(page))
    old.slots.words[0] ^= 1 << 30  # a wrong check
    word = old.slots.words[1]
    old.slots.words[1] = with_check(word ^ 1 << SEGMENT_ID_SHIFT + 20)  # no such segment
    old.slots.words[2] = with_check(1 << 40)  # no such kind
    with caplog.at_level(logging.ERROR):
        new = memory.attach_cache()
    assert "3 slot words are corrupt" in caplog.text
    for page in range(3):
        with pytest.raises(CorruptData):
            new.load(page)
    assert [new.load(page) for page in range(3, 6)] == [pages.compressible(p) for p in (3, 4, 5)]
    assert new.log.table.live[1] == 3


def test_an_empty_store_is_recovered_to_an_empty_store(memory: SharedMemory) -> None:
    memory.attach_cache().close()
    cache = memory.attach_cache()
    check_invariants(cache)
    assert cache.statistics().mem_used_total == 0
