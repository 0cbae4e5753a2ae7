"""Any one or two bits of a slot word turn over: no page is served as another, whatever it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import combinations

import pytest

from fuseswap.errors import CorruptData
from fuseswap.store.slot_word import is_loaded, offset_of, segment_of
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.memory_stores import FrontedCache, SharedMemory

BITS = [1 << bit for bit in range(64)]
FLIPS = [*BITS, *(one | other for one, other in combinations(BITS, 2))]
RAW = range(100, 400)  # pages of two segments and more

KINDS = {
    0: None,  # a hole
    1: pages.ZERO,
    2: pages.filled(pages.FITS),
    3: pages.filled(pages.REPEATS_32),
    4: pages.filled(pages.FITS_NOT),
    5: pages.compressible(5),
    6: pages.compressible(5),  # shared
    7: pages.hexadecimal(1, 3500),  # zstd
}


@pytest.fixture
def cache(memory: SharedMemory) -> Iterator[FrontedCache]:
    cache = memory.attach_cache()
    cache.dedup.set_switch("on")
    for page, data in KINDS.items():
        if data is not None:
            cache.store(page, data)
    for page in RAW:
        cache.store(page, pages.incompressible(page))
    logging.disable()
    yield cache
    logging.disable(logging.NOTSET)


def expect_errors(cache: FrontedCache, page: int) -> None:
    words = cache.slots.words
    word = words[page]
    for flip in FLIPS:
        words[page] = word ^ flip
        with pytest.raises(CorruptData):
            cache.load(page)
    words[page] = word


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("page", KINDS)
def test_it_is_an_error(cache: FrontedCache, page: int, loaded: bool) -> None:
    if loaded:
        cache.load(page)
    cache.slots.used[0] = max(1, cache.slots.used[0])
    expect_errors(cache, page)
    assert cache.load(page) == KINDS[page]


@pytest.mark.parametrize("loaded", [False, True])
def test_a_raw_page_is_never_another_raw_page(cache: FrontedCache, loaded: bool) -> None:
    """Every object there could be is there: in two segments, at each place of a raw page."""
    places: dict[int, set[int]] = {}
    for page in RAW:
        word = cache.slots.get(PageNumber(page))
        places.setdefault(segment_of(word), set()).add(offset_of(word))
    one, other = places.values()
    assert one & other, "the same places in both"
    for page in (RAW[0], RAW[3], RAW[-1]):
        if loaded:
            cache.load(page)
            assert is_loaded(cache.slots.get(PageNumber(page)))
        expect_errors(cache, page)
        assert cache.load(page) == pages.incompressible(page)
