"""The recompressor of segments: makes the objects of one segment smaller, or marks it as tried.

    copies of its cold objects -> the thread compresses a few, then the others
        -> is it still the same? -> rewritten with the smaller ones (``store/copier.py``)
           too little became smaller: the segment is marked, and left alone

Part of the task of ``recompression.py``.  A step opens two segments at most, and takes no frame
that is kept back from stores.  Where the pool is tight a segment is rewritten in one piece, or
waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from fuseswap.codecs.recompressor import Packed
from fuseswap.reclaim.background_thread import BackgroundThread
from fuseswap.reclaim.dictionary_policy import DictionaryPolicy
from fuseswap.reclaim.recompression_policy import RecompressionPolicy
from fuseswap.store.copier import Copier
from fuseswap.store.object_size import footprint
from fuseswap.store.plans import Rewrite
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import as_stored, is_loaded, is_object_of, length_of, object_key
from fuseswap.store.store import Store
from fuseswap.units import FIRST_PAGE, SEGMENT_BYTES, PageNumber, SegmentId, SegmentRef

_SAMPLED = 8  # objects of a segment, to see whether any gains
_WORTH_BYTES = SEGMENT_BYTES // 50
_MANY_LOADED = 0.5


@dataclass(frozen=True, slots=True)
class _Work:
    """One segment: its reference when it was begun, its pages, and smaller payloads by key."""

    ref: SegmentRef
    owners: list[PageNumber]
    packed: dict[int, Packed] = field(default_factory=dict)

    @property
    def segment(self) -> SegmentId:
        """Its id."""
        return self.ref.id


class SegmentRecompressor:
    """Recompresses segments of ``cache``, one at a time, in ``thread``.

    ``policy`` says whether hot ones are wanted too, ``dictionaries`` what with.
    """

    def __init__(
        self,
        cache: Store,
        thread: BackgroundThread,
        policy: RecompressionPolicy,
        dictionaries: DictionaryPolicy,
        copier: Copier,
    ) -> None:
        self._cache = cache
        self._log = cache.log
        self._thread = thread
        self._policy = policy
        self._dictionaries = dictionaries
        self._copier = copier

    async def recompress(self, segment: SegmentId) -> bool:
        """Rewrite or mark ``segment``; False where there is no room or memory to do so now."""
        table = self._log.table
        work = _Work(table.ref(segment), await self._owners(segment))
        if not self._is_same(work):
            return True
        wanted = self._policy.is_wanted(segment, urgent=self._thread.urgent)
        words = self._keys(work, hot=wanted)
        objects = table.live[segment] - table.extra[segment]
        if not wanted and len(words) < objects * (1 - _MANY_LOADED):
            self._spare(work)
            return True
        if self._thread.urgent:
            words = self._keys(work, hot=True)
        # A few from all over the segment first, then the others.
        step = max(1, len(words) // _SAMPLED)
        gained = 0
        for number, part in enumerate(
            (words[::step], [w for i, w in enumerate(words) if i % step])
        ):
            gained += await self._compress(work, part)
            if not self._dictionaries.is_on or not self._is_same(work):
                return True
            if self._thread.is_resting:
                self._policy.put_off(segment)
                return False
            if number == 0 and not gained:
                break
        if gained < _WORTH_BYTES and gained * 4 < table.live_bytes[segment]:
            table.mark(segment, Mark.TRIED)  # crash point: recompress-mark
            return True
        return await self._rewrite(work)

    def _is_same(self, work: _Work) -> bool:
        """Whether the segment is there, and the one it was."""
        return self._policy.is_there(work.segment) and self._log.table.is_current(work.ref)

    async def _owners(self, segment: SegmentId) -> list[PageNumber]:
        """All pages of ``segment``, also those that only share an object."""
        found: list[PageNumber] = []
        first = FIRST_PAGE
        while first < self._cache.page_count:
            pages, first = self._cache.owners_of(segment, first)
            found += pages
            if first < self._cache.page_count:
                await trio.lowlevel.checkpoint()
        return found

    def _keys(self, work: _Work, *, hot: bool) -> list[int]:
        """Keys of the objects of a segment; unless ``hot``, not of those loaded since stored."""
        words = self._cache.slots.words_in(work.segment, work.owners)
        return list(dict.fromkeys(object_key(w) for w in words if hot or not is_loaded(w)))

    def _spare(self, work: _Work) -> None:
        """Most of it is hot: look again later, at those that will have been loaded until then."""
        slots = self._cache.slots
        for page in work.owners:
            word = slots.get(page)
            if is_object_of(word, work.segment) and is_loaded(word):
                slots.words[page] = as_stored(word)
        self._policy.spare(work.segment)

    async def _compress(self, work: _Work, words: list[int]) -> int:
        """Pack those of ``words`` that become smaller; bytes gained.  Stops where it changed."""
        gained = 0
        tried = await self._thread.pack(
            words,
            self._log.stored,
            lambda: self._dictionaries.recompressor(urgent=self._thread.urgent).shrink,
            lambda: self._dictionaries.is_on and self._is_same(work),
        )
        for word, one in tried:
            if one is not None:
                work.packed[word] = one
                gained += length_of(word) - len(one.payload)
        self._dictionaries.pages += len(tried)
        return gained

    async def _rewrite(self, work: _Work) -> bool:
        """Copy the living objects, smaller where possible; False where there is no room for it.

        Memory kept back from stores is not for this: a step opens two segments at most.
        """
        copier = self._copier
        copier.begin(Rewrite.of(self._log, work.segment, work.packed))
        while copier.busy:
            if self._log.frames.available < 2:
                return self._rewrite_at_once(work)
            if not copier.step():
                copier.give_up()
                break
            await trio.lowlevel.checkpoint()
            if not self._is_same(work):
                copier.give_up()
        return not self._is_same(work)

    def _rewrite_at_once(self, work: _Work) -> bool:
        """The pool is tight: all at once, to one stream, without a turn for others, up to 5 ms.

        Objects beyond the room of the open segment go to a frame.  It may be the last one, and
        comes back.
        """
        log, copier = self._log, self._copier
        head = log.heads[Stream.RECOMPRESSED]
        if head.bound - head.tail < self._bytes_needed(work) and not log.frames.has_spare:
            copier.give_up()
            return False
        copier.begin(Rewrite.of(log, work.segment, work.packed, spares=False))
        while copier.busy and copier.step():
            pass
        done = not copier.busy
        copier.give_up()
        return done

    def _bytes_needed(self, work: _Work) -> int:
        """Bytes the objects will take; those that have died meanwhile gain nothing."""
        needed = self._log.table.live_bytes[work.segment]
        for word in self._keys(work, hot=True):
            if word in work.packed:
                needed -= footprint(length_of(word)) - footprint(len(work.packed[word].payload))
        return needed
