"""Duplicates: one object for several pages, whatever becomes of one of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fuseswap.errors import CorruptData, PoolFull
from fuseswap.store.geometry import Geometry
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.units import PageNumber, SegmentId, page_range
from tests.support import pages
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.duplicates import SAME
from tests.support.log_invariants import StoredObject, check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted


def place(cache: FrontedCache, page: int) -> tuple[int, int]:
    found = StoredObject.of(page, cache.slots.get(PageNumber(page)))
    return found.segment, found.offset


# -- the store ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compressible", "incompressible"])
def test_the_same_contents_are_kept_once(cache: FrontedCache, name: str) -> None:
    for page in range(5):
        cache.store(page, pages.CORPUS[name])
    assert len({place(cache, page) for page in range(5)}) == 1
    now = cache.statistics()
    assert (now.duplicate_pages, now.stored_pages) == (4, 5)
    assert now.incompressible_pages == 5 * (name == "incompressible")
    assert cache.encoder.counters.reject_compress_poor == (name == "incompressible")
    assert all(cache.load(page) == pages.CORPUS[name] for page in range(5))


@pytest.mark.parametrize("replace", [False, True])
def test_a_page_stored_again_with_its_own_contents_stays(
    cache: FrontedCache, replace: bool
) -> None:
    cache.store(0, SAME)
    before = place(cache, 0)
    for _ in range(3):
        cache.store(0, SAME, replace=replace)
        check_invariants(cache)
    assert place(cache, 0) == before
    assert cache.load(0) == SAME
    assert cache.statistics().duplicate_pages == 0


def test_each_goes_without_the_others(cache: FrontedCache) -> None:
    for page in range(4):
        cache.store(page, SAME)
    cache.store(0, pages.compressible(2))
    cache.invalidate_page(1)
    check_invariants(cache)
    assert cache.statistics().duplicate_pages == 1
    assert (cache.load(2), cache.load(3)) == (SAME, SAME)
    cache.invalidate_area(2, 2)
    cache.store(0, pages.ZERO)
    check_invariants(cache)
    assert cache.statistics().compr_data_size == 0


def test_a_duplicate_is_stored_into_a_full_pool(cache: FrontedCache) -> None:
    cache.pool_limit_bytes = 2 << 20
    for page in range(255):
        cache.store(page, pages.incompressible(page))
    with pytest.raises(PoolFull):
        cache.store(1279, pages.incompressible(255))
    cache.store(1279, pages.incompressible(3))
    assert cache.load(1279) == pages.incompressible(3)
    check_invariants(cache)


def test_a_duplicate_without_memory_for_its_cluster_is_not_counted(
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(0, SAME)

    def refuse(page: int) -> None:
        raise PoolFull("no memory")

    monkeypatch.setattr(cache.slots, "allocate", refuse)
    with pytest.raises(PoolFull):
        cache.store(1000, SAME)
    check_invariants(cache)
    assert cache.load(1000) is None


def test_what_is_loaded_is_not_taken_for_the_copy(cache: FrontedCache) -> None:
    cache.store(0, SAME)
    cache.load(0)
    cache.store(1, SAME)
    words = [cache.slots.get(page) for page in page_range(0, 2)]
    assert words[0] != words[1], "the R bit, and its parity"
    assert place(cache, 0) == place(cache, 1)


def test_a_corrupt_object_is_not_shared_and_not_reported(
    memory: SharedMemory, cache: FrontedCache
) -> None:
    cache.store(0, SAME)
    segment, offset = place(cache, 0)
    arena = memory.attach().arena.buffer
    for at in (offset, offset + 50):  # the check, the payload
        arena[cache.log.table.bases[segment] + at] ^= 4
        cache.store(1, SAME)
        assert place(cache, 1) != (segment, offset)
        assert cache.reader.counters.checksum_errors == 0
        arena[cache.log.table.bases[segment] + at] ^= 4
        cache.invalidate_page(1)
    cache.invalidate_page(0)


def test_whatever_the_index_holds_nothing_wrong_is_shared(
    memory: SharedMemory, cache: FrontedCache
) -> None:
    for page in range(300):
        cache.store(page, pages.compressible(page))
    index = memory.attach().index.buffer
    chance = random.Random(7)
    for at in range(4, cache.dedup.index.allocated_bytes, 8):  # every page number is another
        index[at : at + 4] = chance.choice((chance.randrange(300), 2**32 - 1)).to_bytes(4, "little")
    for page in range(300, 600):
        cache.store(page, pages.compressible(page - 300))
    check_invariants(cache)
    assert all(cache.load(page) == pages.compressible(page % 300) for page in range(600))


def test_other_contents_with_the_same_digest_are_not_shared(
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseswap.frontswap.page_encoder._digest", lambda data: b"digested")
    for page in range(10):
        cache.store(page, pages.compressible(page))
    cache.store(10, pages.compressible(9))
    assert all(cache.load(page) == pages.compressible(page) for page in range(10))
    assert cache.statistics().duplicate_pages == 1


def test_an_object_with_too_many_pages_is_kept_twice(
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseswap.store.refcounts.MOST", 3)
    for page in range(10):
        cache.store(page, SAME)
    assert cache.statistics().duplicate_pages == 7  # 4, 4 and 2 pages
    check_invariants(cache)


def test_nothing_is_shared_while_a_worker_counts(memory: SharedMemory) -> None:
    memory.attach_cache().store(0, SAME)
    lazy = fronted(memory.attach(), lazy=True)
    lazy.store(1, SAME)
    assert place(lazy, 0) != place(lazy, 1)
    while lazy.adopt_some():
        pass
    lazy.store(2, SAME)
    assert place(lazy, 2) in (place(lazy, 0), place(lazy, 1))


# -- the next worker ---------------------------------------------------------------------


def test_the_next_worker_knows_who_shares_and_finds_more(memory: SharedMemory) -> None:
    old = memory.attach_cache()
    for page in range(1000):
        old.store(page, pages.compressible(page % 400))
    new = memory.attach_cache()
    check_invariants(new)
    before, after = old.statistics(), new.statistics()
    assert before.duplicate_pages == after.duplicate_pages > 560
    assert before.duplicate_bytes_saved == after.duplicate_bytes_saved
    new.store(1000, pages.compressible(7))
    assert place(new, 1000) == place(new, 7)
    new.invalidate_area(0, 1001)
    check_invariants(new)
    assert new.log.table.segments() == []


@pytest.mark.parametrize("seed", range(4))
def test_pages_come_and_go_while_a_worker_counts(memory: SharedMemory, seed: int) -> None:
    chance = random.Random(seed)
    expected: dict[int, bytes] = {}
    cache = memory.attach_cache()
    for _ in range(4):
        for _ in range(600):
            page = chance.choice((chance.randrange(1280), chance.randrange(40)))
            if chance.random() < 0.6:
                expected[page] = pages.compressible(chance.randrange(60))
                cache.store(page, expected[page], replace=chance.random() < 0.2)
            else:
                cache.invalidate_page(page)
                expected.pop(page, None)
            cache.adopt_some(chance.randrange(2))
        while cache.adopt_some(1):
            pass
        check_invariants(cache)
        assert all(cache.load(page) == data for page, data in expected.items())
        cache = fronted(memory.attach(), lazy=True)
    while cache.adopt_some():
        pass


# -- the cleaner -------------------------------------------------------------------------


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


def seal_pairs(cleaned: Cleaned) -> SegmentId:
    """Fill a segment with objects of two pages each, far from each other."""
    segment = 0
    for page in range(200):
        for twin in (page, 3000 + page):
            cleaned.store(twin, seed=page)
    segment = cleaned.log.heads[Stream.STORE].segment
    cleaned.log.seal(cleaned.log.heads[Stream.STORE])
    return segment


def test_what_is_shared_is_copied_once(cleaned: Cleaned) -> None:
    segment = seal_pairs(cleaned)
    cleaned.cleaner.begin(segment)
    while cleaned.log.table.live[segment]:
        assert cleaned.cleaner.step()
        cleaned.check()
    now = cleaned.cleaner.statistics()
    assert (now.objects_copied, now.segments_cleaned, now.given_up) == (200, 1, 0)
    assert cleaned.log.duplicate_pages == 200
    assert not cleaned.cleaner.busy


def test_owners_that_are_in_no_directory_are_found(cleaned: Cleaned) -> None:
    segment = seal_pairs(cleaned)
    for page in range(200):
        cleaned.discard(page)  # those the directory knows
    cleaned.cleaner.begin(segment)
    while cleaned.cleaner.busy:
        assert cleaned.cleaner.step()
    assert cleaned.log.table.live[segment] == 0
    cleaned.check()


def test_the_copy_that_has_gone_between_two_steps_is_made_again(cleaned: Cleaned) -> None:
    segment = seal_pairs(cleaned)
    cleaned.cleaner.begin(segment)
    for _ in range(2):
        cleaned.cleaner.step()
    for page in range(0, 200, 3):
        cleaned.discard(page)
    while cleaned.cleaner.busy:
        assert cleaned.cleaner.step()
        cleaned.check()


def test_nothing_is_shared_in_a_segment_that_is_being_emptied(cleaned: Cleaned) -> None:
    segment = seal_pairs(cleaned)
    cleaned.cleaner.begin(segment)
    cleaned.cleaner.step()
    for page in range(1000, 1200):
        cleaned.store(page, seed=page - 1000)
        assert place(cleaned.cache, page)[0] != segment
    while cleaned.cleaner.busy:
        assert cleaned.cleaner.step()
    assert cleaned.cleaner.statistics().given_up == 0
    cleaned.store(1300, seed=5)
    cleaned.check()


def test_a_corrupt_word_of_a_shared_segment_pins_it(cleaned: Cleaned) -> None:
    segment = seal_pairs(cleaned)
    cleaned.cache.slots.words[3000] ^= 1 << 30
    cleaned.cleaner.begin(segment)
    while cleaned.cleaner.busy:
        cleaned.cleaner.step()
    assert cleaned.log.table.live[segment] == 1
    assert cleaned.log.table.is_pinned(segment)
    with pytest.raises(CorruptData):
        cleaned.cache.load(3000)


def test_a_mark_without_sharers_costs_nothing_but_the_sweep(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    cleaned.log.table.mark(segment, Mark.SHARED)
    cleaned.cleaner.begin(segment)
    while cleaned.cleaner.busy:
        cleaned.cleaner.step()
    cleaned.check()
