"""`Extract`: a copier moves the objects it is given payloads for, and leaves the others alone."""

from __future__ import annotations

import pytest

from fuseswap.codecs.checksum import checksum_of
from fuseswap.codecs.recompressor import Packed
from fuseswap.codecs.registry import ZSTD, parse_compressor
from fuseswap.store.copier import Copier
from fuseswap.store.plans import STEP_OBJECTS, Extract
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import object_key, segment_of
from fuseswap.units import PageNumber, page_range
from tests.support import pages
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import FrontedCache

PAGES = 150
_zstd = parse_compressor("zstd:3").compress


def packed(page: int) -> Packed:
    payload = _zstd(pages.compressible(page))
    return Packed(payload, ZSTD, checksum_of(payload, ZSTD))


@pytest.fixture
def copier(cache: FrontedCache) -> Copier:
    for page in range(PAGES):
        cache.store(page, pages.compressible(page))
    for head in cache.log.heads:
        cache.log.seal(head)
    return Copier(cache.slots, cache.log)


def finish(copier: Copier) -> int:
    steps = 0
    while copier.busy:
        assert copier.step()
        steps += 1
    return steps


def check(cache: FrontedCache) -> None:
    check_invariants(cache)
    for page in range(PAGES):
        assert cache.load(page) == pages.compressible(page)


def test_only_what_is_packed_moves(cache: FrontedCache, copier: Copier) -> None:
    get = cache.slots.get
    before = [get(page) for page in page_range(0, PAGES)]
    (segment,) = cache.log.table.segments()
    payloads = {object_key(before[page]): packed(page) for page in (3, 70, 149)}
    copier.begin(Extract.of(cache.log, segment, payloads))
    assert finish(copier) == -(-PAGES // STEP_OBJECTS)
    changed = [page for page in page_range(0, PAGES) if get(page) != before[page]]
    assert changed == [3, 70, 149]
    assert {cache.log.table.stream_of(segment_of(get(PageNumber(page)))) for page in changed} == {
        Stream.RECOMPRESSED
    }
    assert cache.log.table.live[segment] == PAGES - 3
    assert cache.log.table.is_movable(segment)
    assert copier.statistics().recompressed_pages == 3
    assert copier.statistics().given_up == 0
    check(cache)


def test_where_all_of_it_is_packed_the_segment_goes(cache: FrontedCache, copier: Copier) -> None:
    (segment,) = cache.log.table.segments()
    words = [cache.slots.get(page) for page in page_range(0, PAGES)]
    copier.begin(
        Extract.of(
            cache.log, segment, {object_key(word): packed(p) for p, word in enumerate(words)}
        )
    )
    finish(copier)
    assert not cache.log.table.is_live(segment)
    check(cache)


def test_what_was_overwritten_since_stays_as_it_is(cache: FrontedCache, copier: Copier) -> None:
    (segment,) = cache.log.table.segments()
    first = cache.slots.get(PageNumber(0))
    copier.begin(Extract.of(cache.log, segment, {object_key(first): packed(0)}))
    cache.store(0, pages.hexadecimal(0))
    finish(copier)
    assert copier.statistics().recompressed_pages == 0
    assert cache.load(0) == pages.hexadecimal(0)
    check_invariants(cache)


def test_of_a_shared_object_all_pages_move(cache: FrontedCache, copier: Copier) -> None:
    cache.dedup.set_switch("on")
    (segment,) = cache.log.table.segments()
    cache.store(1000, pages.compressible(5))  # the index may know it or not
    cache.store(1001, pages.compressible(5))
    assert cache.log.table.is_marked(segment, Mark.SHARED)
    word = cache.slots.get(PageNumber(5))
    sharing = [
        page
        for page in (5, 1000, 1001)
        if object_key(cache.slots.get(PageNumber(page))) == object_key(word)
    ]
    assert len(sharing) > 1
    copier.begin(Extract.of(cache.log, segment, {object_key(word): packed(5)}))
    finish(copier)
    assert len({cache.slots.get(PageNumber(page)) for page in sharing}) == 1
    assert cache.slots.get(PageNumber(5)) != word
    assert not cache.log.table.is_pinned(segment)
    check(cache)
