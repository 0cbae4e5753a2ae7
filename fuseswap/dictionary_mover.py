"""The mover of dictionaries' pages: packs the pages of one anew and moves them out of its segments.

    a census: which segments have its pages -> one of them, read back where it is on the tier
        -> the thread packs its pages with the dictionary in use, or with none
        -> is it still the same? -> the new payloads are stored (``cache/copier.py``)

Part of the task of ``recompression.py``.  Stops where stores wait, memory or frames are short, or
recompression is switched off.  Which dictionary goes, ``dictionary_retirement.py`` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import trio

from fuseswap.background_thread import BackgroundThread
from fuseswap.cache.checks import CHECK_BYTES
from fuseswap.cache.copier import Copier, CopierStatistics
from fuseswap.cache.dictionaries import Dictionary
from fuseswap.cache.dictionary_census import DictionaryCensus
from fuseswap.cache.plans import Extract
from fuseswap.cache.recompressor import Packed, Repacker
from fuseswap.cache.segment_kinds import SegmentState
from fuseswap.cache.slot_word import codec_of, length_of, object_key, offset_of
from fuseswap.cache.store import Store
from fuseswap.counting import counter
from fuseswap.dictionary_policy import DictionaryPolicy
from fuseswap.units import SegmentRef

_PASSES = 3  # through all its segments; others move its pages meanwhile
_SPARE_FRAMES = 2  # as many segments can be opened at a step


class ReadBack(NamedTuple):
    """How pages come back from the tier to be moved.

    ``may_read``: whether they may, and be written once more.  ``read``: the 1 MiB of a segment,
    None where it can't be read.
    """

    may_read: Callable[[], bool]
    read: Callable[[int], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class MoverStatistics:
    """Work done to retire dictionaries."""

    moved: int = counter(
        "Pages that were compressed anew so that their dictionary could go.",
        name="dictionary_pages_moved",
        after="dictionaries_dropped",
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment: its reference, its pages, and its bytes where it is on the tier."""

    ref: SegmentRef
    owners: list[int]
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

    async def census(self) -> DictionaryCensus:
        """Look through the slot table, with turns for others."""
        census = DictionaryCensus(self._cache.slots)
        while census.step():
            await trio.lowlevel.checkpoint()
        return census

    def living(self, census: DictionaryCensus, one: Dictionary) -> Counter[int]:
        """Pages of ``one`` by segment; a corrupt word may name one that is not there."""
        found = census.pages[one.codec]
        return Counter({s: count for s, count in found.items() if self._log.table.is_live(s)})

    async def sample(
        self, segment: int, one: Dictionary, repacker: Repacker, most: int
    ) -> dict[int, Packed] | None:
        """New payloads of at most ``most`` objects of ``one``, by key; None where it is stopped."""
        found = await self._look_at(segment)
        if found is None:
            return {}
        words = self._words(found, one.codec)
        return await self._packed(words[:: -(-len(words) // most) or 1], found, repacker)

    async def empty(self, one: Dictionary, census: DictionaryCensus, repacker: Repacker) -> None:
        """Move all objects of ``one``, as far as it goes."""
        pages = self._log.codec_pages
        left = _PASSES
        while pages[one.codec] and left:
            living = self.living(census, one)
            for segment in sorted(living, key=lambda s: self._log.table.bases[s] < 0):
                if not await self._empty_segment(segment, one, repacker):
                    return
            left -= 1
            if pages[one.codec] and left:
                census = await self.census()

    async def _empty_segment(self, segment: int, one: Dictionary, repacker: Repacker) -> bool:
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
        packed = await self._packed(self._words(found, one.codec), found, repacker)
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

    async def _look_at(self, segment: int) -> _Segment | None:
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
        words = self._cache.slots.words_in(found.ref.id, found.owners)
        return list(dict.fromkeys(object_key(word) for word in words if codec_of(word) == codec))

    async def _packed(
        self, words: list[int], found: _Segment, repacker: Repacker
    ) -> dict[int, Packed] | None:
        """New payloads of the objects of ``words``.

        None where recompression was switched off, or rests, or stores need it.
        """

        def read(word: int) -> bytes:
            if not found.stored:
                return self._log.stored(word)
            at = offset_of(word)
            return found.stored[at : at + CHECK_BYTES + length_of(word)]

        tried = await self._thread.pack(
            words, read, lambda: repacker.shrink, lambda: self._is_able() and self._is_same(found)
        )
        if not self._is_able():
            return None
        return {word: one for word, one in tried if one is not None}

    def _is_able(self) -> bool:
        """Whether pages may be packed anew now."""
        return self._dictionaries.is_on and not (self._thread.urgent or self._thread.is_resting)
