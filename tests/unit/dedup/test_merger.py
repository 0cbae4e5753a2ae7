"""A sweep keeps one object of what is stored twice, and leaves everything else alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fuseswap.codecs.registry import RAW
from fuseswap.dedup.merger import STEP_OBJECTS, Merger
from fuseswap.dedup.policy import Mode
from fuseswap.store.geometry import Geometry
from fuseswap.store.slot_word import REFERENCED
from fuseswap.units import page_range
from tests.support import pages
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted
from tests.support.merged_pages import begin, is_merged, object_of, pairs, sweep


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


# -- what is merged --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compressible", "incompressible"])
def test_what_is_stored_twice_is_kept_once(cache: FrontedCache, name: str) -> None:
    copies = [(page, pages.CORPUS[name]) for page in (0, 7, 600, 1279)]
    merger = begin(cache, *copies)
    bytes_before = cache.statistics().compr_data_size
    sweep(merger)
    now = cache.statistics()
    assert (merger.merged_pages, now.duplicate_pages, now.stored_pages) == (3, 3, 4)
    assert now.compr_data_size == bytes_before // 4
    assert all(cache.load(page) == data for page, data in copies)


def test_a_sweep_tells_the_index_of_all_there_is(cache: FrontedCache) -> None:
    sweep(begin(cache, *((page, pages.compressible(page)) for page in range(500))))
    for page in range(500):
        cache.store(700 + page, pages.compressible(page))
    assert cache.statistics().duplicate_pages > 450  # each was asked for once, and is in a bucket


def test_what_is_one_object_already_stays(cache: FrontedCache) -> None:
    for page in range(4):
        cache.store(page, pages.compressible(page // 2))
    merger = begin(cache)
    before = cache.slots.words[:4].tolist()
    sweep(merger)
    assert cache.slots.words[:4].tolist() == before
    assert merger.merged_pages == 0


def test_two_groups_of_pages_become_one(cache: FrontedCache) -> None:
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
def test_the_smaller_object_stays(cache: FrontedCache, better: int) -> None:
    same = pages.hexadecimal(1)
    cache.dedup.set_switch("off")
    for page in range(2):
        cache.encoder.set_compressor("zstd:9" if page == better else "lz4")
        cache.store(page, same)
    merger = begin(cache)
    smaller = object_of(cache, better)
    assert smaller.length < object_of(cache, 1 - better).length
    sweep(merger)
    assert [object_of(cache, page).place for page in range(2)] == [smaller.place] * 2


def test_a_larger_object_with_several_pages_is_not_left_by_one(cache: FrontedCache) -> None:
    same = pages.hexadecimal(1)
    cache.dedup.set_switch("on")
    cache.store(0, same)
    cache.store(1, same)
    cache.dedup.set_switch("off")
    cache.encoder.set_compressor("zstd:9")
    merger = begin(cache, (2, same))
    sweep(merger)
    assert all(is_merged(cache, 0, page) for page in (1, 2))


@pytest.mark.parametrize("loaded", [{0}, {1}, {0, 1}, set()])
def test_each_page_keeps_its_r_bit(cache: FrontedCache, loaded: set[int]) -> None:
    merger = begin(cache, *((page, pages.compressible(1)) for page in range(2)))
    for page in loaded:
        cache.load(page)
    sweep(merger)
    assert merger.merged_pages == 1
    assert {page for page in page_range(0, 2) if cache.slots.get(page) & REFERENCED} == loaded


def test_the_last_page_of_a_segment_frees_it(cleaned: Cleaned) -> None:
    merger = pairs(cleaned)
    assert cleaned.log.table.in_use == 2
    sweep(merger)
    assert cleaned.log.table.in_use == 1
    cleaned.check()


def test_the_only_page_of_an_open_segment(cache: FrontedCache) -> None:
    merger = begin(cache, (0, pages.compressible(1)))
    cache.log.seal(cache.log.heads[0])
    begin(cache, (1, pages.compressible(1)))
    sweep(merger)
    assert is_merged(cache, 0, 1)
    cache.store(2, pages.compressible(2))
    assert cache.load(2) == pages.compressible(2)


def test_a_raw_page_that_was_never_tried_is_replaced_by_a_compressed_one(
    cache: FrontedCache,
) -> None:
    cache.dedup.set_switch("off")
    cache.store(0, pages.incompressible(0))
    cache.store(0, pages.compressible(1))  # not tried, since the last one did not compress
    merger = begin(cache, (1, pages.compressible(1)))
    assert object_of(cache, 0).codec == RAW + 1
    sweep(merger)
    assert is_merged(cache, 0, 1)
    assert cache.statistics().raw_pages == 0


# -- what is not -----------------------------------------------------------------------


def test_fills_are_left_alone(cache: FrontedCache) -> None:
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
    arena[cache.log.table.bases[first.segment] + first.offset + 20] ^= 1
    cache.slots.words[1] ^= 1 << 30
    sweep(merger)
    assert merger.merged_pages == 0
    assert cache.reader.counters.checksum_errors == 0
    assert cache.load(2) == pages.compressible(1)


def test_other_contents_with_the_same_digest_are_not_merged(
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseswap.dedup.merger._digest", lambda data: b"digested")
    merger = begin(cache, *((page, pages.compressible(page)) for page in range(20)))
    sweep(merger)
    assert merger.merged_pages == 0


def test_an_object_with_too_many_pages_is_kept_twice(
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuseswap.store.refcounts.MOST", 3)
    sweep(begin(cache, *((page, pages.compressible(1)) for page in range(10))))
    assert cache.statistics().duplicate_pages == 7  # 4, 4 and 2 pages


def test_whatever_the_index_holds_nothing_wrong_is_merged(
    memory: SharedMemory, cache: FrontedCache
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
    cache: FrontedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(offset: int, length: int) -> None:
        raise OSError(28, "no space")

    merger = begin(cache, *((page, pages.compressible(1)) for page in range(40)))
    monkeypatch.setattr(cache.dedup.index._region, "populate", refuse)
    sweep(merger)
    assert merger.merged_pages == 0


# -- the walk --------------------------------------------------------------------------


def test_a_step_is_bounded_and_says_what_is_left(cache: FrontedCache) -> None:
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


def test_an_empty_device_is_swept_at_once(cache: FrontedCache) -> None:
    merger = begin(cache)
    merger.step()
    assert not merger.busy


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
    sweep(Merger(cache.cache, cache.dedup))
    assert cache.statistics().duplicate_pages > 290
    assert all(cache.load(page) == data for page, data in stored)
    check_invariants(cache)


def test_there_is_no_sweep_while_a_worker_counts(memory: SharedMemory) -> None:
    begin(memory.attach_cache(), *((page, pages.compressible(page % 9)) for page in range(90)))
    cache = fronted(memory.attach(), lazy=True)
    cache.dedup.set_switch("on")
    merger = Merger(cache.cache, cache.dedup)
    seen = [(merger.busy, cache.dedup.mode)]
    while cache.adopt_some():
        seen.append((merger.busy, cache.dedup.mode))
    assert set(seen) == {(False, Mode.OFF)}
    assert cache.dedup.mode is Mode.ON
    sweep(merger)
    assert merger.merged_pages == 81
