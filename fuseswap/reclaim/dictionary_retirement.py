"""The retirement of dictionaries: which one goes, and how its pages get on without it.

There are eight places, and a dictionary stays as long as an object needs it.  So now and then some
pages of each old one are tried, compressed as they would be today: with the one in use or none.

    gain = its own size + bytes a trained one that waits for a place would save
           - bytes its pages grow by (less than nothing, where the one in use is better)
    price = `dictionary_gain_percent` of its pages, and a block for each segment to be read back

The one with the highest gain above its price goes, one at a time.  Its objects are packed anew and
moved, segment by segment (``dictionary_mover.py``), until no page needs it; then its place is
free.  It is looked at again when half of its pages have gone, or another is in use.

Part of the task of ``recompression.py``, at whose turns and in whose thread all of it is done.
No other task drops a dictionary, or adds one, so new payloads stay readable until they are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import trio
import zstandard

from fuseswap.codecs.dictionary import Dictionary
from fuseswap.codecs.recompressor import Recompressor, Repacker
from fuseswap.reclaim.dictionary_mover import DictionaryMover
from fuseswap.reclaim.dictionary_policy import DictionaryPolicy
from fuseswap.store.dictionary_area import memory_bytes
from fuseswap.store.slot_word import length_of
from fuseswap.store.store import Store
from fuseswap.units import PAGE_SIZE, SegmentId

_LOOK_EVERY_S = 60
_REST_S = 600
_SAMPLED_SEGMENTS = 8
_SAMPLED_OBJECTS = 8  # of each


class DictionaryRetirement:
    """Retires dictionaries of ``cache``: ``mover`` moves their pages."""

    def __init__(
        self, cache: Store, dictionaries: DictionaryPolicy, mover: DictionaryMover
    ) -> None:
        self._cache = cache
        self._log = cache.log
        self._dictionaries = dictionaries
        self._mover = mover
        # Of the dictionaries there are, eight at most, by version.
        self._looked_at: dict[int, tuple[int, int]] = {}  # its pages, the one in use
        self._rests: dict[int, float] = {}  # until when; it could not be emptied
        self._next_look: float | None = None  # not in the first minute of a worker

    # -- when --------------------------------------------------------------------------

    async def look(self) -> None:
        """Retire those that are a burden, if there is news."""
        now = trio.current_time()
        if self._next_look is None:
            self._next_look = now + _LOOK_EVERY_S
        if now >= self._next_look and self._has_news():
            self._next_look = now + _LOOK_EVERY_S
            recompressor = self._dictionaries.recompressor()
            while await self._retire_one(recompressor):
                pass

    async def make_place(self) -> None:
        """For the one that waits, if it is worth it; then it waits no more."""
        if self._dictionaries.is_on:
            await self._retire_one(self._dictionaries.recompressor())
        self._dictionaries.settle()

    def _has_news(self) -> bool:
        """Whether another is in use, or half of the pages of one have gone, since the last look."""
        in_use = self._dictionaries.in_use
        pages = self._log.dictionary_use.pages
        for one in self._removable(in_use):
            before, was_in_use = self._looked_at.get(one.version, (0, -1))
            if was_in_use != _version(in_use) or pages[one.number] * 2 <= before:
                return True
        return False

    def _removable(self, in_use: Dictionary | None) -> list[Dictionary]:
        """Those that could go: not the one in use, and readable."""
        now = trio.current_time()
        return [
            one
            for one in self._cache.dictionaries.all
            if one is not in_use and one.data and self._rests.get(one.version, now) <= now
        ]

    # -- which -------------------------------------------------------------------------

    async def _retire_one(self, recompressor: Recompressor) -> bool:
        """Look at all that could go, and empty the best of them, if it pays.

        True where it may pay to look at the others again.
        """
        in_use = recompressor.dictionary
        self._forget_the_dropped()
        if not self._mover.has_room() or not self._removable(in_use):
            return False
        best, best_profit, best_repacker = None, 0, None
        for one in self._removable(in_use):
            try:
                repacker = Repacker(recompressor, one)
            except (MemoryError, zstandard.ZstdError):
                continue
            pages = await self._mover.living(one)
            if self._on_tier(pages) and not self._mover.may_read():
                continue
            sampled = await self._sample(one, pages, repacker)
            if sampled is None:
                continue
            looked_at = (self._log.dictionary_use.pages[one.number], _version(in_use))
            self._looked_at[one.version] = looked_at
            profit = self._profit(one, *sampled, self._on_tier(pages))
            if profit > best_profit:
                best, best_profit, best_repacker = one, profit, repacker
        if best is None or best_repacker is None:
            return False
        await self._mover.empty(best, best_repacker)
        if self._log.dictionary_use.pages[best.number]:
            self._rests[best.version] = trio.current_time() + _REST_S
            del self._looked_at[best.version]
        self._dictionaries.drop_unused()
        return True

    def _profit(self, one: Dictionary, size: int, growth_percent: float, read_back: int) -> int:
        """Bytes won where ``one`` goes; ``read_back``: segments to be read for it."""
        waiting = self._dictionaries.waiting
        gain = memory_bytes(one) + (waiting.gain_bytes if waiting else 0)
        price = size * self._dictionaries.gain_percent // 100 + PAGE_SIZE * read_back
        return gain - int(size * growth_percent / 100) - price

    def _forget_the_dropped(self) -> None:
        known = {one.version for one in self._cache.dictionaries.all}
        for of_versions in (self._looked_at, self._rests):
            for version in of_versions.keys() - known:
                del of_versions[version]

    def _on_tier(self, segments: Iterable[SegmentId]) -> int:
        return sum(self._log.table.bases[segment] < 0 for segment in segments)

    async def _sample(
        self, one: Dictionary, pages: Counter[SegmentId], repacker: Repacker
    ) -> tuple[int, float] | None:
        """Bytes of its objects and by how many percent they would grow, from some of them.

        None where none can be had.  ``pages``: of each segment at most.
        """
        here = [segment for segment in pages if self._log.table.bases[segment] >= 0]
        chosen = here[:: -(-len(here) // _SAMPLED_SEGMENTS) or 1]
        if not here:
            chosen = [segment for segment, _ in pages.most_common(1)]
        before = after = size = counted = 0
        for segment in chosen:
            found = await self._mover.sample(segment, one, repacker, _SAMPLED_OBJECTS)
            if found is None:
                return None
            size += found.object_bytes
            counted += pages[segment]
            before += sum(length_of(word) for word in found.packed)
            after += sum(len(its.payload) for its in found.packed.values())
        if not before:
            return None
        return size * pages.total() // counted, (after - before) * 100 / before


def _version(dictionary: Dictionary | None) -> int:
    return dictionary.version if dictionary else 0
