"""Duplicates: one object for several pages, and an index that is never trusted."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fuseswap.dedup import policy as dedup_module
from fuseswap.dedup.content_index import ContentIndex
from fuseswap.dedup.policy import MOST_SAMPLED, SAMPLED_WINDOW, WINDOW, Dedup, Mode
from fuseswap.errors import CorruptData, PoolFull
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.store.segment_entry import Mark, Stream
from tests.support import pages
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.log_invariants import StoredObject, check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted

SAME = pages.compressible(1)


def place(cache: FrontedCache, page: int) -> tuple[int, int]:
    found = StoredObject.of(page, cache.slots.get(page))
    return found.segment, found.offset


@pytest.fixture
def index_region(memory: SharedMemory) -> Region:
    return memory.regions()["index"]


# -- the store -------------------------------------------------------------------------


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
    assert cache.slots.get(0) != cache.slots.get(1)  # the R bit, and its parity
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


# -- the next worker -------------------------------------------------------------------


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


# -- the cleaner -----------------------------------------------------------------------


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


def seal_pairs(cleaned: Cleaned) -> int:
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


# -- the index -------------------------------------------------------------------------


def digests(count: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(8) for _ in range(count)]


def test_it_grows_with_what_is_stored_and_keeps_what_it_knew(index_region: Region) -> None:
    index = ContentIndex(index_region)
    assert index.allocated_bytes == 0
    known = digests(1000)
    for page, digest in enumerate(known):
        index.grow(3 * page, 4)
        assert index.exchange(page, digest) == -1
    found = sum(index.exchange(page, digest) == page for page, digest in enumerate(known))
    assert found > 930
    assert index.allocated_bytes <= 24 * 1000 + 4096
    assert index_region.allocated_bytes() == index.allocated_bytes


def test_a_worker_takes_over_the_index_of_another(index_region: Region) -> None:
    old = ContentIndex(index_region)
    known = digests(1000)
    old.grow(3000, 1000)
    for page, digest in enumerate(known):
        old.exchange(page, digest)
    new = ContentIndex(index_region)
    assert sum(new.exchange(page, digest) == page for page, digest in enumerate(known)) > 900


def test_a_full_bucket_forgets_one_entry_for_each_that_comes(index_region: Region) -> None:
    index = ContentIndex(index_region)
    index.grow(1, 1)
    chance = random.Random(3)
    known = [bytes((0, 0, 0, n)) + chance.randbytes(4) for n in range(1, 13)]  # of one bucket
    for page, digest in enumerate(known[:8]):
        index.exchange(page, digest)
    assert [index.exchange(page, digest) for page, digest in enumerate(known[:8])] == [*range(8)]
    for page, digest in enumerate(known[8:], 8):
        assert index.exchange(page, digest) == -1
        assert index.exchange(page, digest) == page


def test_pages_that_come_back_in_the_same_order_are_found(index_region: Region) -> None:
    """As the copies of a process do: a bucket that drops its oldest entry would lose them all."""
    index = ContentIndex(index_region)
    known = digests(1000)
    for page, digest in enumerate(known):
        index.grow(3 * page, 4)
        index.exchange(page, digest)
    for _ in range(3):
        assert sum(index.exchange(page, digest) == page for page, digest in enumerate(known)) > 930


def test_it_shrinks_and_keeps_what_is_left(index_region: Region) -> None:
    index = ContentIndex(index_region)
    index.grow(2048, 1000)
    known = digests(100)
    for page, digest in enumerate(known):
        index.exchange(page, digest)
    index.shrink(512)
    assert index.allocated_bytes == index_region.allocated_bytes() == 16384  # worth keeping
    index.shrink(500)
    assert index.allocated_bytes == index_region.allocated_bytes() == 4096
    found = sum(index.exchange(page, digest) == page for page, digest in enumerate(known))
    assert 10 < found < 60
    index.shrink(0)
    assert index.allocated_bytes == index_region.allocated_bytes() == 0


def test_without_memory_nothing_is_found_and_nothing_breaks(
    index_region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(offset: int, length: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(index_region, "populate", refuse)
    index = ContentIndex(index_region)
    index.grow(5000, 100)
    for digest in digests(10) * 2:
        assert index.exchange(1, digest) == -1
    assert index_region.allocated_bytes() == 0


# -- does it pay? ----------------------------------------------------------------------


SHORT = 1024


def looked_up(dedup: Dedup, count: int, hits: float) -> None:
    """So many lookups, of which a share were hits."""
    for number in range(count):
        dedup.candidate(number & 1023, number.to_bytes(8, "little"))
        dedup.hits += int((number + 1) * hits) - int(number * hits)


@pytest.fixture
def dedup(cache: FrontedCache, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    monkeypatch.setattr(dedup_module, "WINDOW", SHORT)
    cache.dedup.set_switch("off")
    cache.dedup.set_switch("auto")
    return cache.dedup


def modes(dedup: Dedup) -> set[Mode]:
    return {dedup.mode}


def test_it_begins_with_a_long_look(cache: FrontedCache) -> None:
    looked_up(cache.dedup, WINDOW, 0)
    assert modes(cache.dedup) == {Mode.ON}
    looked_up(cache.dedup, 1, 0)
    assert modes(cache.dedup) == {Mode.SAMPLING}


@pytest.mark.parametrize("hits", [0.03, 0.04])
def test_it_stays_where_it_pays(dedup: Dedup, hits: float) -> None:
    looked_up(dedup, 10 * SHORT, hits)
    assert dedup.mode is Mode.ON


@pytest.mark.parametrize("hits", [0, 0.01, 0.025])
def test_it_samples_where_it_does_not(dedup: Dedup, hits: float) -> None:
    looked_up(dedup, SHORT + 1, hits)
    assert modes(dedup) == {Mode.SAMPLING}
    looked_up(dedup, 20 * SAMPLED_WINDOW, hits)
    assert dedup.mode is Mode.SAMPLING


def lookups_until_on(dedup: Dedup) -> int:
    """With nothing but hits."""
    lookups = 0
    while Mode.ON not in modes(dedup):
        looked_up(dedup, 1, 1)
        lookups += 1
    return lookups


def test_a_few_hits_among_samples_are_enough(dedup: Dedup) -> None:
    looked_up(dedup, SHORT + 1, 0)
    assert lookups_until_on(dedup) <= 17  # 8 hits, and a look each 8


def test_samples_have_to_say_more_each_time_it_did_not_pay(dedup: Dedup) -> None:
    needed = []
    for _ in range(10):
        looked_up(dedup, 2 * SHORT + 1, 0)
        dedup.finish_sweep()
        looked_up(dedup, 2 * SHORT + 1, 0)
        assert modes(dedup) == {Mode.SAMPLING}
        needed.append(lookups_until_on(dedup))
    assert needed == sorted(needed)
    assert 4 * needed[0] <= needed[4] < needed[9]
    assert 0.03 * MOST_SAMPLED <= needed[9] <= 0.03 * MOST_SAMPLED + 8


def test_less_again_once_it_pays(dedup: Dedup) -> None:
    for _ in range(5):
        looked_up(dedup, 2 * SHORT + 1, 0)
        dedup.finish_sweep()
        looked_up(dedup, 2 * SHORT + 1, 0)
        last = lookups_until_on(dedup)
    dedup.finish_sweep()
    looked_up(dedup, SHORT, 1)
    looked_up(dedup, 2 * SHORT, 0)
    assert modes(dedup) == {Mode.SAMPLING}
    assert lookups_until_on(dedup) < last


def test_what_saves_memory_is_a_hit(cache: FrontedCache) -> None:
    for page in range(20):
        cache.store(page, pages.compressible(page % 10))
    assert cache.dedup.hits == 10
    cache.store(100, pages.compressible(100))
    before = cache.dedup.hits
    cache.store(100, pages.compressible(100))
    assert cache.dedup.hits == before


def fill(cache: FrontedCache) -> None:
    for page in range(1000):
        cache.store(page, pages.compressible(page))


def test_the_index_goes_after_a_window_of_samples(dedup: Dedup, cache: FrontedCache) -> None:
    fill(cache)
    looked_up(dedup, 30, 0)
    full = dedup.index.allocated_bytes
    assert (dedup.mode, full) == (Mode.SAMPLING, 16384)
    dedup.trim()
    looked_up(dedup, 2 * SAMPLED_WINDOW - 10, 0)
    assert dedup.index.allocated_bytes == full
    looked_up(dedup, 20, 0)
    assert dedup.index.allocated_bytes == 4096


def test_copies_that_come_as_the_first_window_ends_are_found(
    dedup: Dedup, cache: FrontedCache
) -> None:
    fill(cache)
    looked_up(dedup, 30, 0)
    looked_up(dedup, SAMPLED_WINDOW, 0.5)
    assert dedup.mode is Mode.ON
    for page in range(1000, 1280):
        cache.store(page, pages.compressible(page - 1000))
    assert cache.statistics().duplicate_pages > 200  # some pages of the index were looked up


def test_while_it_samples_few_pages_are_looked_up_and_the_same_ones_always(
    cache: FrontedCache,
) -> None:
    cache.dedup.mode = Mode.SAMPLING
    for page in range(600):
        cache.store(page, pages.incompressible(page))
        cache.store(page + 600, pages.incompressible(page))
    assert 3 <= cache.statistics().duplicate_pages <= 30  # 600 / 61


def test_a_switch_is_obeyed(dedup: Dedup, cache: FrontedCache) -> None:
    dedup.set_switch("on")
    looked_up(dedup, 5000, 0)
    assert modes(dedup) == {Mode.ON}
    dedup.set_switch("off")
    assert dedup.index.allocated_bytes == 0
    cache.store(0, SAME)
    cache.store(1, SAME)
    now = cache.statistics()
    assert (now.duplicate_pages, now.dedup_active, now.dedup_index_bytes) == (0, 0, 0)
    dedup.set_switch("auto")
    assert modes(dedup) == {Mode.SAMPLING}  # to know all of them a sweep has to pay
    cache.invalidate_area(0, 2)
    dedup.set_switch("off")
    dedup.set_switch("auto")
    assert cache.statistics().dedup_active == 1


def test_an_empty_device_needs_no_index(dedup: Dedup, cache: FrontedCache) -> None:
    for page in range(800):
        cache.store(page, pages.compressible(page))
    cache.invalidate_area(0, 800)
    dedup.trim()
    assert cache.statistics().dedup_index_bytes == 0
    for page in range(200):
        cache.store(page, SAME)
    assert 70 < cache.statistics().duplicate_pages < 200  # it grows with one of the first 128
