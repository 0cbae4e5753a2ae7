"""The merger: finds duplicates among what is stored already, and keeps one object of each.

For what was stored while the index of contents was not told of every page (``dedup/policy.py``
says when, and `Dedup.sweep_at` how far it is).  A sweep walks the slot table once, page by page:

    an object in memory -> its contents -> the index: the page that had them last
        -> is that so, all 4096 bytes? -> one of the two objects is counted once more, one
           word becomes that of the other page, and the object it had is counted off

Of two objects the smaller one stays, but where the other has several pages already.  A page is
loaded since it was stored, not an object, so each page keeps its R bit.  Left alone are holes,
fills, corrupt pages, and pages on a tier or in their places.  A segment that is being emptied takes
no page, though its own may leave it.

Each step is one critical section of some pages, 0.1 to 0.3 ms.  It looks at words as they are
then, and holds nothing when it ends.  Synchronous; ``dedup/sweep.py`` decides when.
"""

from __future__ import annotations

from dataclasses import dataclass

import xxhash

from fuseswap.counting import counter, gauge
from fuseswap.dedup.policy import Dedup
from fuseswap.store.slot_table import CLUSTER_SHIFT, SWEEP_CLUSTERS
from fuseswap.store.slot_word import (
    as_loaded,
    as_stored,
    is_loaded,
    is_object,
    length_of,
    object_key,
)
from fuseswap.store.store import Store
from fuseswap.units import PageNumber, page_range

STEP_OBJECTS = 12  # 5 to 15 us each: 0.12 ms with lz4, 0.17 with zstd
STEP_PAGES = 256  # looked at for them, 10 us
_STEP_BUCKETS = 9  # room in the index for twice as many pages as a step finds, 15 us

_digest = xxhash.xxh3_64_digest


@dataclass(frozen=True, slots=True)
class MergerStatistics:
    """Sweeps so far."""

    unswept_pages: int = gauge(
        "pages",
        "At most so many pages a sweep for duplicates has yet to look at; 0 where there is none.",
        name="dedup_unswept_pages",
        after="dedup_index_bytes",
    )
    merged_pages: int = counter(
        "Stored pages that a sweep gave the object of another page with the same contents.",
        name="dedup_merged_pages",
        after="duplicate_entry",
    )


class Merger:
    """Sweeps the slot table of ``cache``, in steps, and looks pages up in ``dedup``."""

    def __init__(self, cache: Store, dedup: Dedup) -> None:
        self._cache = cache
        self._slots = cache.slots
        self._log = cache.log
        self._dedup = dedup
        self.merged_pages = 0

    @property
    def busy(self) -> bool:
        """Whether there is a sweep to go on with."""
        return self._dedup.sweep_at >= 0

    @property
    def unswept_pages(self) -> int:
        """At most so many pages are left of the sweep, 0 where there is none."""
        if not self.busy:
            return 0
        return self._slots.used_clusters(self._dedup.sweep_at >> CLUSTER_SHIFT) << CLUSTER_SHIFT

    def step(self) -> None:
        """Look at up to `STEP_OBJECTS` more, if there is a sweep."""
        dedup = self._dedup
        if not self.busy:
            return
        dedup.make_room(_STEP_BUCKETS)
        words, left = self._slots.words, STEP_OBJECTS
        first, end = self._next_piece(dedup.sweep_at)
        following = end
        for page in page_range(first, end):
            if not left:
                following = page
                break
            word = words[page]
            if is_object(word):
                left -= self._look_at(page, word)
        dedup.sweep_at = PageNumber(following)
        if following >= self._slots.page_count:
            dedup.finish_sweep()

    def _next_piece(self, page: PageNumber) -> tuple[PageNumber, int]:
        """From ``page`` on: the first page of a present cluster, and where to stop.

        Both are the same where none of those looked at is present.
        """
        used, page_count = self._slots.used, self._slots.page_count
        cluster = page >> CLUSTER_SHIFT
        limit = min(cluster + SWEEP_CLUSTERS, len(used))
        while cluster < limit and not used[cluster]:
            cluster += 1
        page = PageNumber(min(max(page, cluster << CLUSTER_SHIFT), page_count))
        if cluster == limit:
            return page, page
        return page, min(page + STEP_PAGES, cluster + 1 << CLUSTER_SHIFT, page_count)

    def _look_at(self, page: PageNumber, word: int) -> bool:
        """Tell the index of ``page``, and merge it with its twin; whether it took long."""
        data = self._cache.reader.contents_of(word)
        if data is None:
            return False
        twin = self._dedup.index.exchange(page, _digest(data))
        if 0 <= twin < self._slots.page_count:
            self._merge(page, word, twin, data)
        return True

    def _merge(self, page: PageNumber, word: int, twin: PageNumber, data: bytes) -> None:
        """One object for ``page``, of which ``word`` and ``data`` are, and ``twin``, if it can be.

        In the order of a store of a duplicate with `replace`.
        """
        its = self._slots.get(twin)
        if object_key(its) == object_key(word) or self._cache.reader.contents_of(its) != data:
            return
        ways = [(page, word, its), (twin, its, word)]
        if length_of(word) < length_of(its) and not self._log.is_shared(its):
            ways.reverse()
        for moved, old, kept in ways:
            if self._log.share(kept):
                new = as_loaded(kept) if is_loaded(old) else as_stored(kept)
                self._slots.words[moved] = new  # crash point: merge-commit
                self._log.release(old)  # crash point: merge-release
                self.merged_pages += 1
                return

    def statistics(self) -> MergerStatistics:
        """A snapshot."""
        return MergerStatistics(unswept_pages=self.unswept_pages, merged_pages=self.merged_pages)
