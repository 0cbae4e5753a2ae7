"""Duplicates: one object for several pages, and an index that is never trusted."""

from __future__ import annotations

import random

import pytest

from fuseswap.dedup import policy as dedup_module
from fuseswap.dedup.content_index import ContentIndex
from fuseswap.dedup.policy import MOST_SAMPLED, SAMPLED_WINDOW, WINDOW, Dedup, Mode
from fuseswap.store.region import Region
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.duplicates import SAME
from tests.support.memory_stores import FrontedCache, SharedMemory


def exchange(index: ContentIndex, page: int, digest: bytes) -> int:
    return index.exchange(PageNumber(page), digest)


@pytest.fixture
def index_region(memory: SharedMemory) -> Region:
    return memory.regions()["index"]


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
        assert exchange(index, page, digest) == -1
    found = sum(exchange(index, page, digest) == page for page, digest in enumerate(known))
    assert found > 930
    assert index.allocated_bytes <= 24 * 1000 + 4096
    assert index_region.allocated_bytes() == index.allocated_bytes


def test_a_worker_takes_over_the_index_of_another(index_region: Region) -> None:
    old = ContentIndex(index_region)
    known = digests(1000)
    old.grow(3000, 1000)
    for page, digest in enumerate(known):
        exchange(old, page, digest)
    new = ContentIndex(index_region)
    assert sum(exchange(new, page, digest) == page for page, digest in enumerate(known)) > 900


def test_a_full_bucket_forgets_one_entry_for_each_that_comes(index_region: Region) -> None:
    index = ContentIndex(index_region)
    index.grow(1, 1)
    chance = random.Random(3)
    known = [bytes((0, 0, 0, n)) + chance.randbytes(4) for n in range(1, 13)]  # of one bucket
    for page, digest in enumerate(known[:8]):
        exchange(index, page, digest)
    assert [exchange(index, page, digest) for page, digest in enumerate(known[:8])] == [*range(8)]
    for page, digest in enumerate(known[8:], 8):
        assert exchange(index, page, digest) == -1
        assert exchange(index, page, digest) == page


def test_pages_that_come_back_in_the_same_order_are_found(index_region: Region) -> None:
    """As the copies of a process do: a bucket that drops its oldest entry would lose them all."""
    index = ContentIndex(index_region)
    known = digests(1000)
    for page, digest in enumerate(known):
        index.grow(3 * page, 4)
        exchange(index, page, digest)
    for _ in range(3):
        assert sum(exchange(index, page, digest) == page for page, digest in enumerate(known)) > 930


def test_it_shrinks_and_keeps_what_is_left(index_region: Region) -> None:
    index = ContentIndex(index_region)
    index.grow(2048, 1000)
    known = digests(100)
    for page, digest in enumerate(known):
        exchange(index, page, digest)
    index.shrink(512)
    assert index.allocated_bytes == index_region.allocated_bytes() == 16384  # worth keeping
    index.shrink(500)
    assert index.allocated_bytes == index_region.allocated_bytes() == 4096
    found = sum(exchange(index, page, digest) == page for page, digest in enumerate(known))
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
        assert exchange(index, 1, digest) == -1
    assert index_region.allocated_bytes() == 0


# -- does it pay? ----------------------------------------------------------------------


SHORT = 1024


def looked_up(dedup: Dedup, count: int, hits: float) -> None:
    """So many lookups, of which a share were hits."""
    for number in range(count):
        dedup.candidate(PageNumber(number & 1023), number.to_bytes(8, "little"))
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
