"""Pages that nobody looked for duplicates among, and a sweep over them."""

from __future__ import annotations

from fuseswap.dedup.merger import Merger
from fuseswap.units import PageNumber
from tests.support.cleaned_cache import Cleaned
from tests.support.log_invariants import StoredObject
from tests.support.memory_stores import FrontedCache

COPIES = 1000  # of page N the copy is page COPIES + N
COUNT = 100


def object_of(cache: FrontedCache, page: int) -> StoredObject:
    return StoredObject.of(page, cache.slots.get(PageNumber(page)))


def is_merged(cache: FrontedCache, page: int, twin: int) -> bool:
    one, other = object_of(cache, page), object_of(cache, twin)
    return (one.segment, one.offset) == (other.segment, other.offset)


def begin(cache: FrontedCache, *stored: tuple[int, bytes]) -> Merger:
    """Store so that nothing is looked for, then begin a sweep."""
    cache.dedup.set_switch("off")
    for page, data in stored:
        cache.store(page, data)
    cache.dedup.set_switch("on")
    return Merger(cache.cache, cache.dedup)


def sweep(merger: Merger) -> None:
    while merger.busy:
        merger.step()


def pairs(cleaned: Cleaned) -> Merger:
    """Pages and their copies, each kind in a sealed segment of its own."""
    cleaned.cache.dedup.set_switch("off")
    for first in (0, COPIES):
        for page in range(COUNT):
            cleaned.store(first + page, seed=page)
        for head in cleaned.log.heads:
            cleaned.log.seal(head)
    cleaned.cache.dedup.set_switch("on")
    return Merger(cleaned.cache.cache, cleaned.cache.dedup)
