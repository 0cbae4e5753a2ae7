"""Turnover: which dictionary goes, and how its pages get on without it.

There are eight places, and a dictionary stays as long as an object needs it.  So now and then
it is looked at what the old ones are good for, by pages of each, compressed as they would be
today: with the dictionary in use or without one.

    gain = its own size + what a trained one that waits for a place would save
           - what its pages grow by (less than nothing, where the one in use is better)
    price = `dictionary_gain_percent` of its pages, and a block for each segment to be read back

The one with the highest gain above its price goes, one at a time: its objects are packed anew and
moved, segment by segment (``cache/extractor.py``), until nothing needs it; then its place is
free.  It is looked at again when half of its pages have gone, or another is in use.

Part of the task of ``recompression.py``, at whose turns and in whose thread all of it is done.
No other task drops a dictionary, or adds one, so what the thread has packed stays readable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import trio
import zstandard

from fuseswap.cache.checks import CHECK_BYTES
from fuseswap.cache.cleaner import CleanerStatistics
from fuseswap.cache.dictionaries import Dictionary
from fuseswap.cache.dictionary_census import DictionaryCensus
from fuseswap.cache.extractor import Extractor
from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.recompressor import Packed, Recompressor, Repacker
from fuseswap.cache.segment_kinds import SegmentState
from fuseswap.cache.slot_word import (
    codec_of,
    is_corrupt,
    is_object_of,
    length_of,
    object_key,
    offset_of,
)
from fuseswap.counting import counter
from fuseswap.pace import Read
from fuseswap.training import Training
from fuseswap.units import PAGE_SIZE, SegmentRef

_LOOK_EVERY_S = 60
_REST_S = 600
_SAMPLED_SEGMENTS = 8
_SAMPLED_OBJECTS = 8  # of each
_PASSES = 3  # through all its segments; others move its pages meanwhile
_SPARE_FRAMES = 2  # as many segments can be opened at a step

# `Recompression._repack`: words, how they are read, with what they are packed, whether to go on.
Pack = Callable[
    [list[int], Read, Repacker, Callable[[], bool]],
    Awaitable[list[tuple[int, Packed | None]] | None],
]


@dataclass(frozen=True, slots=True)
class TurnoverStatistics:
    """Work done to retire dictionaries."""

    moved: int = counter(
        "Pages that were compressed anew so that their dictionary could go.",
        name="dictionary_pages_moved",
        after="dictionaries_dropped",
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment: what it was, its pages, and its bytes where it is on the tier."""

    ref: SegmentRef
    owners: list[int]
    stored: bytes


class Turnover:
    """Retires dictionaries of ``cache``, in the thread of ``pack``."""

    def __init__(self, cache: CompressedCache, training: Training, pack: Pack) -> None:
        self._cache = cache
        self._log = cache.log
        self._training = training
        self._pack = pack
        self.extractor = Extractor(cache.slots, cache.log, cache.decoder)
        # For what is on the tier: may it be read to be written again, and all of a segment.
        self.may_read: Callable[[], bool] = lambda: False
        self.read_segment: Callable[[int], Awaitable[bytes | None]] | None = None
        # Of the dictionaries there are, eight at most, by version.
        self._looked_at: dict[int, tuple[int, int]] = {}  # its pages, the one in use
        self._rests: dict[int, float] = {}  # until when; it could not be emptied
        self._next_look: float | None = None  # not in the first minute of a worker

    def statistics(self) -> TurnoverStatistics:
        """A snapshot: objects that were packed anew."""
        return TurnoverStatistics(self.extractor.counters.recompressed_pages)

    def copied(self) -> CleanerStatistics:
        """What it did of a cleaner's work: nothing of it was recompressed to save memory."""
        return replace(
            self.extractor.statistics(),
            recompressed_pages=0,
            recompressed_bytes_before=0,
            recompressed_bytes_after=0,
        )

    # -- when --------------------------------------------------------------------------

    async def look(self, level: int) -> None:
        """Retire what is a burden, if there is news; pages are packed anew with ``level``."""
        now = trio.current_time()
        if self._next_look is None:
            self._next_look = now + _LOOK_EVERY_S
        if now >= self._next_look and self._has_news():
            self._next_look = now + _LOOK_EVERY_S
            recompressor = self._training.recompressor(level)
            while await self._retire_one(recompressor):
                pass

    async def make_place(self, level: int) -> None:
        """For the one that waits, if it is worth it; then it waits no more."""
        if level:
            await self._retire_one(self._training.recompressor(level))
        self._training.settle()

    def _has_news(self) -> bool:
        """Whether another is in use, or half of the pages of one have gone, since the last look."""
        in_use = self._training.in_use
        pages = self._log.codec_pages
        for one in self._candidates(in_use):
            before, was_in_use = self._looked_at.get(one.version, (0, -1))
            if was_in_use != _version(in_use) or pages[one.codec] * 2 <= before:
                return True
        return False

    def _candidates(self, in_use: Dictionary | None) -> list[Dictionary]:
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
        if not self._has_room() or not self._candidates(in_use):
            return False
        census = await self._census()
        best, best_profit, best_repacker = None, 0, None
        waiting = self._training.waiting
        for one in self._candidates(in_use):
            try:
                repacker = Repacker(recompressor, one)
            except (MemoryError, zstandard.ZstdError):
                continue
            pages = self._living(census, one)
            if self._on_tier(pages) and not self.may_read():
                continue
            growth_percent = await self._growth_percent(one, pages, repacker)
            if growth_percent is None:
                continue
            looked_at = (self._log.codec_pages[one.codec], _version(in_use))
            self._looked_at[one.version] = looked_at
            size = self._log.codec_bytes[one.codec]
            gain = one.memory_bytes + (waiting.gain_bytes if waiting else 0)
            price = size * self._training.gain_percent // 100 + PAGE_SIZE * self._on_tier(pages)
            profit = gain - int(size * growth_percent / 100) - price
            if profit > best_profit:
                best, best_profit, best_repacker = one, profit, repacker
        if best is None or best_repacker is None:
            return False
        await self._empty(best, census, best_repacker)
        if self._log.codec_pages[best.codec]:
            self._rests[best.version] = trio.current_time() + _REST_S
            del self._looked_at[best.version]
        self._training.drop_unused()
        return True

    def _forget_the_dropped(self) -> None:
        known = {one.version for one in self._cache.dictionaries.all}
        for of_versions in (self._looked_at, self._rests):
            for version in of_versions.keys() - known:
                del of_versions[version]

    async def _census(self) -> DictionaryCensus:
        census = DictionaryCensus(self._cache.slots)
        while census.step():
            await trio.lowlevel.checkpoint()
        return census

    def _living(self, census: DictionaryCensus, one: Dictionary) -> Counter[int]:
        """Its pages by segment; a corrupt word may name one that is not there."""
        found = census.pages[one.codec]
        return Counter({s: count for s, count in found.items() if self._log.table.is_live(s)})

    def _on_tier(self, segments: Iterable[int]) -> int:
        return sum(self._log.table.bases[segment] < 0 for segment in segments)

    async def _growth_percent(
        self, one: Dictionary, pages: Counter[int], repacker: Repacker
    ) -> float | None:
        """By how much its objects would grow, from some of them; None where none can be had."""
        here = [segment for segment in pages if self._log.table.bases[segment] >= 0]
        chosen = here[:: -(-len(here) // _SAMPLED_SEGMENTS) or 1]
        if not here:
            chosen = [segment for segment, _ in pages.most_common(1)]
        before = after = 0
        for segment in chosen:
            found = await self._look_at(segment)
            if found is None:
                continue
            words = self._words(found, one.codec)
            words = words[:: -(-len(words) // _SAMPLED_OBJECTS) or 1]
            packed = await self._packed(words, found, repacker)
            if packed is None:
                return None
            before += sum(length_of(word) for word in packed)
            after += sum(len(its.payload) for its in packed.values())
        return (after - before) * 100 / before if before else None

    # -- one segment -------------------------------------------------------------------

    async def _look_at(self, segment: int) -> _Segment | None:
        """What ``segment`` is now; None where its objects can't be moved."""
        log, slots = self._log, self._cache.slots
        if not log.table.is_live(segment):
            return None
        ref, stored = log.table.ref(segment), b""
        if log.table.state_of(segment) is SegmentState.ON_TIER:
            if self.read_segment is None or log.table.is_pinned(segment):
                return None
            stored = await self.read_segment(segment) or b""
            if not stored:
                return None
        owners: list[int] = []
        first = 0
        while first < slots.page_count:
            if not self._is_where_it_was(ref, stored):
                return None
            found, first = self._cache.owners_of(segment, first, stored)
            owners += found
            await trio.lowlevel.checkpoint()
        return _Segment(ref, owners, stored)

    def _is_same(self, found: _Segment) -> bool:
        return self._is_where_it_was(found.ref, found.stored)

    def _is_where_it_was(self, ref: SegmentRef, stored: bytes) -> bool:
        """Whether the segment goes on, in memory, or on the tier where its bytes are ``stored``."""
        table = self._log.table
        return table.is_current(ref) and (table.bases[ref.id] < 0) == bool(stored)

    def _words(self, found: _Segment, codec: int) -> list[int]:
        """Keys of the objects of ``codec``."""
        get = self._cache.slots.get
        count = self._cache.slots.page_count
        words = (get(page) for page in found.owners if page < count)
        mine = (
            object_key(word)
            for word in words
            if is_object_of(word, found.ref.id) and codec_of(word) == codec and not is_corrupt(word)
        )
        return list(dict.fromkeys(mine))

    async def _packed(
        self, words: list[int], found: _Segment, repacker: Repacker
    ) -> dict[int, Packed] | None:
        """What the objects of ``words`` become; None where recompression was switched off."""

        def read(word: int) -> bytes:
            if not found.stored:
                return self._log.stored(word)
            at = offset_of(word)
            return found.stored[at : at + CHECK_BYTES + length_of(word)]

        tried = await self._pack(words, read, repacker, lambda: self._is_same(found))
        return None if tried is None else {word: one for word, one in tried if one is not None}

    # -- emptying ----------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether a step may open segments; what is kept back from stores is not for this."""
        return self._log.frames.available >= _SPARE_FRAMES

    async def _empty(self, one: Dictionary, census: DictionaryCensus, repacker: Repacker) -> None:
        """Move all objects of ``one``, as far as it goes."""
        pages = self._log.codec_pages
        left = _PASSES
        while pages[one.codec] and left:
            living = self._living(census, one)
            for segment in sorted(living, key=lambda s: self._log.table.bases[s] < 0):
                if not await self._empty_segment(segment, one, repacker):
                    return
            left -= 1
            if pages[one.codec] and left:
                census = await self._census()

    async def _empty_segment(self, segment: int, one: Dictionary, repacker: Repacker) -> bool:
        """Move the objects of ``one`` out of ``segment``; False where nothing goes on now."""
        log = self._log
        for head in log.heads:
            if head.segment == segment:
                log.seal(head)
        if not self._has_room():
            return False
        found = await self._look_at(segment)
        if found is None:
            return True
        packed = await self._packed(self._words(found, one.codec), found, repacker)
        if packed is None:
            return False
        if not packed or not self._is_same(found):
            return True
        extractor = self.extractor
        extractor.take_out(segment, packed, found.stored)
        while extractor.busy:
            if not self._has_room() or not extractor.step():
                extractor.give_up()
                return False
            await trio.lowlevel.checkpoint()
            if not self._is_same(found):
                extractor.give_up()
        return True


def _version(dictionary: Dictionary | None) -> int:
    return dictionary.version if dictionary else 0
