"""The mover of dictionaries' pages: packs the pages of one anew and moves them out of its segments.

    which segments have its pages (``store/dictionary_use.py``)
        -> one of them, read back where it is on the tier
        -> the thread packs its pages with the dictionary in use, or with none
        -> is it still the same? -> the new payloads are stored (``store/copier.py``)

Part of the task of ``recompression.py``.  Stops where stores wait, memory or frames are short, or
recompression is switched off.  Which dictionary goes, ``dictionary_retirement.py`` decides.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import trio

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.dictionary import Dictionary, number_of
from fuseswap.codecs.recompressor import Packed, Repacker
from fuseswap.codecs.registry import ZSTD_DICTIONARY
from fuseswap.counting import counter
from fuseswap.reclaim.background_thread import BackgroundThread
from fuseswap.reclaim.dictionary_policy import DictionaryPolicy
from fuseswap.store.copier import Copier, CopierStatistics
from fuseswap.store.plans import Extract
from fuseswap.store.segment_entry import SegmentState
from fuseswap.store.slot_word import codec_of, length_of, object_key, offset_of
from fuseswap.store.store import Store
from fuseswap.units import FIRST_PAGE, PageNumber, SegmentId, SegmentRef

_LOOKED_AT_ONCE = 512  # segments: 0.3 ms
_COUNTED_AT_ONCE = 4
_CHECKED_AT_ONCE = 64  # objects: 0.6 ms
_PASSES = 3  # through all its segments; others move its pages meanwhile
_SPARE_FRAMES = 2  # as many segments can be opened at a step


class ReadBack(NamedTuple):
    """How pages come back from the tier to be moved.

    ``may_read``: whether they may, and be written once more.  ``read``: the 1 MiB of a segment,
    None where it can't be read.
    """

    may_read: Callable[[], bool]
    read: Callable[[SegmentId], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class MoverStatistics:
    """Work done to retire dictionaries."""

    moved: int = counter(
        "Pages that were compressed anew so that their dictionary could go.",
        name="dictionary_pages_moved",
        after="dictionaries_dropped",
    )


class Sampled(NamedTuple):
    """New payloads of some objects in one segment, by key, and the old bytes of all of them."""

    packed: dict[int, Packed]
    object_bytes: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment: its reference, its pages, and its bytes where it is on the tier."""

    ref: SegmentRef
    owners: list[PageNumber]
    stored: bytes


class DictionaryMover:
    """Moves pages of ``cache``; they are packed anew in ``thread``, while ``dictionaries`` is on.

    ``read_back``: for pages on the tier; None where there is none.
    """

    def __init__(
        self,
        cache: Store,
        thread: BackgroundThread,
        dictionaries: DictionaryPolicy,
        read_back: ReadBack | None = None,
    ) -> None:
        self._cache = cache
        self._log = cache.log
        self._thread = thread
        self._dictionaries = dictionaries
        self._read_back = read_back
        self.copier = Copier(cache.slots, cache.log)

    def statistics(self) -> MoverStatistics:
        """A snapshot: objects that were packed anew."""
        return MoverStatistics(self.copier.counters.recompressed_pages)

    def copied(self) -> CopierStatistics:
        """What it copied: nothing of it was recompressed to save memory."""
        return replace(
            self.copier.statistics(),
            recompressed_pages=0,
            recompressed_bytes_before=0,
            recompressed_bytes_after=0,
        )

    def has_room(self) -> bool:
        """Whether a step may open segments; frames kept back from stores are not for this."""
        return self._log.frames.available >= _SPARE_FRAMES

    def may_read(self) -> bool:
        """Whether pages on the tier may be read to be written again."""
        return self._read_back is not None and self._read_back.may_read()

    async def count_again(self) -> None:
        """Find out what a few segments in memory need, pages of which went: 0.3 ms each."""
        inexact = self._log.dictionary_use.inexact
        for segment in list(itertools.islice(inexact, _COUNTED_AT_ONCE)):
            inexact.discard(segment)
            if self._log.table.bases[segment] >= 0:
                found = await self._look_at(segment)
                if found is not None:
                    await self._recount(found)

    async def living(self, one: Dictionary) -> Counter[SegmentId]:
        """At most so many pages of ``one`` by segment, as they are now."""
        use = self._log.dictionary_use
        found: Counter[SegmentId] = Counter()
        for looked_at, segment in enumerate(use.segments()):
            if looked_at % _LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if pages := use.of(segment).get(one.number, 0):
                found[segment] = pages
        return found

    async def sample(
        self, segment: SegmentId, one: Dictionary, repacker: Repacker, most: int
    ) -> Sampled | None:
        """Pack at most ``most`` objects of ``one`` in ``segment``; None where it is stopped."""
        found = await self._look_at(segment)
        if found is None:
            return Sampled({}, 0)
        if found.stored:
            await self._recount(found)
        words = self._words(found, one)
        packed = await self._packed(words[:: -(-len(words) // most) or 1], found, repacker)
        return None if packed is None else Sampled(packed, sum(map(length_of, words)))

    async def empty(self, one: Dictionary, repacker: Repacker) -> None:
        """Move all objects of ``one``, as far as it goes."""
        pages = self._log.dictionary_use.pages
        left = _PASSES
        while pages[one.number] and left:
            living = await self.living(one)
            for segment in sorted(living, key=lambda s: self._log.table.bases[s] < 0):
                if not await self._empty_segment(segment, one, repacker):
                    return
            left -= 1

    async def _empty_segment(self, segment: SegmentId, one: Dictionary, repacker: Repacker) -> bool:
        """Move the objects of ``one`` out of ``segment``; False where nothing goes on now."""
        log = self._log
        for head in log.heads:
            if head.segment == segment:
                log.seal(head)
        if not self.has_room():
            return False
        found = await self._look_at(segment)
        if found is None:
            return True
        await self._recount(found)
        packed = await self._packed(self._words(found, one), found, repacker)
        if packed is None:
            return False
        if not packed or not self._is_same(found):
            return True
        copier = self.copier
        copier.begin(Extract.of(log, segment, packed, found.stored))
        while copier.busy:
            if not self.has_room() or not copier.step():
                copier.give_up()
                return False
            await trio.lowlevel.checkpoint()
            if not self._is_same(found):
                copier.give_up()
        return True

    # -- one segment -------------------------------------------------------------------

    async def _look_at(self, segment: SegmentId) -> _Segment | None:
        """``segment`` as it is now; None where its objects can't be moved."""
        log, slots = self._log, self._cache.slots
        if not log.table.is_live(segment):
            return None
        ref, stored = log.table.ref(segment), b""
        if log.table.state_of(segment) is SegmentState.ON_TIER:
            if self._read_back is None or log.table.is_pinned(segment):
                return None
            stored = await self._read_back.read(segment) or b""
            if not stored:
                return None
        owners: list[PageNumber] = []
        first = FIRST_PAGE
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

    async def _recount(self, found: _Segment) -> None:
        """What the pages of a segment need, if all of them were ``found``: none came since.

        And if its bytes are right, where they came from a tier: another read may be.
        """
        if found.stored and not await self._is_sound(found):
            return
        if not self._is_same(found):
            return
        segment, log = found.ref.id, self._log
        words = self._cache.slots.words_in(segment, found.owners)
        numbers = [self._number(word, found) for word in words if codec_of(word) == ZSTD_DICTIONARY]
        if len(numbers) == log.dictionary_use.pages_in(segment):
            log.dictionary_use.recount(segment, Counter(numbers))
            if found.stored:
                log.table.note_dictionaries(segment, numbers)

    async def _is_sound(self, found: _Segment) -> bool:
        """Whether all its objects with a dictionary are: 10 us each."""
        words = self._cache.slots.words_in(found.ref.id, found.owners)
        for number, word in enumerate(w for w in words if codec_of(w) == ZSTD_DICTIONARY):
            if not self._cache.decoder.is_sound(self._read(word, found), ZSTD_DICTIONARY):
                return False
            if number % _CHECKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return True

    def _number(self, word: int, found: _Segment) -> int:
        return number_of(self._read(word, found)[CHECK_BYTES:])

    def _read(self, word: int, found: _Segment) -> bytes:
        """Check and payload of an object of a segment that is where it was."""
        if not found.stored:
            return self._log.stored(word)
        at = offset_of(word)
        return found.stored[at : at + CHECK_BYTES + length_of(word)]

    def _words(self, found: _Segment, one: Dictionary) -> list[int]:
        """Keys of the objects of ``one``."""
        if not self._is_same(found):
            return []
        words = self._cache.slots.words_in(found.ref.id, found.owners)
        keys = dict.fromkeys(
            object_key(word) for word in words if codec_of(word) == ZSTD_DICTIONARY
        )
        return [key for key in keys if self._number(key, found) == one.number]

    async def _packed(
        self, words: list[int], found: _Segment, repacker: Repacker
    ) -> dict[int, Packed] | None:
        """New payloads of the objects of ``words``.

        None where recompression was switched off, or rests, or stores need it.
        """
        tried = await self._thread.pack(
            words,
            partial(self._read, found=found),
            lambda: repacker.shrink,
            lambda: self._is_able() and self._is_same(found),
        )
        if not self._is_able():
            return None
        return {word: one for word, one in tried if one is not None}

    def _is_able(self) -> bool:
        """Whether pages may be packed anew now."""
        return self._dictionaries.is_on and not (self._thread.urgent or self._thread.is_resting)
