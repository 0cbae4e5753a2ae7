"""The scrub: read everything back and verify every check, by request.

    pages in memory            each object where it lies
    segments on a tier         whole, a piece of 1 MiB a time, twice where something is wrong
    pages of other backends    loaded as the kernel would load them

``rate`` bounds the bytes that are read from tiers in a second.  A bad page is named and left as
it is: a load gives the error, an overwrite or a discard mends it.  Of a tier that keeps
two copies each is looked at.  A bad one is written anew from the good one (``Copies`` of
``tiers/tier.py``).

One task.  A page that is stored, moved or discarded meanwhile is looked at where it is then, or is
not looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder
from fuseswap.counting import counter, zeros
from fuseswap.errors import CorruptData, Deferred, InvalidArgument, kept
from fuseswap.reclaim.scrub_request import ScrubRequest
from fuseswap.store.frame_pool import NO_FRAME
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.segment_places import on_tier
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import (
    codec_of,
    is_corrupt,
    is_foreign,
    is_object,
    is_object_of,
    is_same_object,
    length_of,
    offset_of,
    segment_of,
)
from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.tier import Copies, Read
from fuseswap.tiers.tier_reader import TierReader
from fuseswap.tiers.tier_table import TierEntry, TierTable
from fuseswap.units import (
    FIRST_PAGE,
    NO_SEGMENT,
    SEGMENT_BYTES,
    Location,
    PageNumber,
    SegmentId,
    SegmentRef,
    numbered,
    page_array,
)

log = logging.getLogger(__name__)

_MISMATCH = "checksum mismatch"
_OBJECTS_A_TURN = 64  # about 150 us

# Loads a page of a backend that has foreign words.
Load = Callable[[PageNumber, int], bytes]


@dataclass(slots=True)
class ScrubCounters:
    """What all scrubs have found."""

    scrubbed_pages: int = counter("Pages whose check was verified by a scrub.")
    scrub_bad_pages: int = counter("Pages that a scrub found bad.")
    scrub_repairs: int = counter("Segments that a scrub wrote anew from their other copy.")


class Scrubber:
    """Looks at pages of ``slots``, wherever they are."""

    def __init__(
        self,
        slots: SlotTable,
        segment_log: SegmentLog,
        tiers: TierTable,
        reader: TierReader,
        decoder: Decoder,
        load: Load,
    ) -> None:
        self._slots = slots
        self._log = segment_log
        self._tiers = tiers
        self._reader = reader
        self._decoder = decoder
        self._load = load
        self.request = ScrubRequest()
        self.counters = zeros(ScrubCounters)
        self._called = trio.Event()

    def ask(self, request: ScrubRequest) -> None:
        """Carry ``request`` out, instead of one that is under way."""
        if request.tier is not None:
            self._tiers.named(request.tier)
        request.total = self._parts(request)
        self.request = request
        self._called.set()

    async def run(self) -> None:
        """Carry out what is asked for.  Never returns."""
        while True:
            await self._called.wait()
            self._called = trio.Event()
            request = self.request
            try:
                await self._scrub(request)
            except InvalidArgument as exc:  # its tier was removed meanwhile
                log.warning("the scrub has ended: %s", exc)
                request.done = request.total

    def _tiers_of(self, request: ScrubRequest) -> list[TierEntry]:
        if request.tier is not None:
            return [self._tiers.named(request.tier)]
        return list(self._tiers)

    def _parts(self, request: ScrubRequest) -> int:
        """Segments on tiers; and, with ``all``, one more for what is in memory or elsewhere."""
        on_tiers = sum(entry.extents.in_use for entry in self._tiers_of(request))
        return max(1, on_tiers + (request.tier is None))

    async def _scrub(self, request: ScrubRequest) -> None:
        request.total = self._parts(request)
        if request.tier is None:
            await self._scrub_pages(request)
            request.done += 1
        for entry in self._tiers_of(request):
            await self._scrub_tier(request, entry.number)
        if self.request is request:
            request.done = request.total

    async def _scrub_tier(self, request: ScrubRequest, tier: int) -> None:
        table, kind = self._log.table, on_tier(tier)
        segment = table.places.next_of(kind, NO_SEGMENT)
        while segment and self.request is request:
            began = trio.current_time()
            found = table.on_tier(segment)
            if found is not None and found[1].tier == tier:
                await self._scrub_segment(request, found[0])
                if request.rate is not None:
                    await trio.sleep_until(began + SEGMENT_BYTES / request.rate)
                request.done = min(request.done + 1, request.total)
            await trio.lowlevel.checkpoint()
            segment = table.places.next_of(kind, segment)

    # -- in memory, and of other backends ----------------------------------------------

    async def _scrub_pages(self, request: ScrubRequest) -> None:
        looked = 0
        for first, words in self._slots.clusters():
            for page, word in numbered(words, first):
                if not word or self.request is not request:
                    continue
                if is_corrupt(word):
                    self._note(request, page, "its slot word is corrupt")
                elif is_object(word) and self._log.table.bases[segment_of(word)] >= 0:
                    looked += 1
                    self._look(request, page)
                elif is_foreign(word):
                    await self._look_elsewhere(request, page, word)
                if looked >= _OBJECTS_A_TURN:
                    looked = 0
                    await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    def _look(self, request: ScrubRequest, page: PageNumber) -> None:
        """One page as it is now, if it is in memory."""
        word = self._slots.get(page)
        if not is_object(word) or self._log.table.bases[segment_of(word)] < 0:
            return
        self.counters.scrubbed_pages += 1
        if not self._decoder.is_sound(self._log.stored(word), codec_of(word)):
            self._note(request, page, "in memory, checksum mismatch")

    async def _look_elsewhere(self, request: ScrubRequest, page: PageNumber, word: int) -> None:
        """A page of another backend; it may change meanwhile."""
        self.counters.scrubbed_pages += 1
        try:
            self._load(page, word)
            return
        except CorruptData as exc:
            why = str(exc)
        except Deferred as exc:
            outcome: object = await await_callback(kept(exc).begin)
            if not isinstance(outcome, CorruptData):
                return
            why = str(outcome)
        if is_same_object(self._slots.get(page), word):
            self._note(request, page, why)

    # -- on a tier ---------------------------------------------------------------------

    async def _scrub_segment(self, request: ScrubRequest, ref: SegmentRef) -> None:
        found = self._log.table.on_tier(ref.id)
        if found is None or found[0] != ref:
            return
        location = found[1]
        copies = self._tiers.copies_at(location)
        if copies is not None:
            bad = await self._scrub_copies(request, ref, location, copies)
        else:
            table = self._log.table
            read = partial(
                self._reader.begin_read,
                location,
                ref.sequence,
                0,
                SEGMENT_BYTES,
                is_gone=lambda: not table.is_at(ref, location),
            )
            bad = await self._bad_pages(ref, location, read)
            if _MISMATCH in bad.values():  # what can't be read was tried again already
                bad = await self._bad_pages(ref, location, partial(read, again=True))
        name = self._name_of(location)
        for page, why in bad.items():
            self._note(request, page, f"tier {name}, segment {ref.id}: {why}")

    def _name_of(self, location: Location) -> str:
        entry = next((one for one in self._tiers if one.number == location.tier), None)
        return entry.tier.name if entry and entry.tier else str(location.tier)

    async def _scrub_copies(
        self, request: ScrubRequest, ref: SegmentRef, location: Location, copies: Copies
    ) -> dict[PageNumber, str]:
        """Look at both copies; write one that is bad anew.  Returns what is bad in both."""
        where = (location.extent, ref.sequence)
        bad = [
            await self._bad_pages(
                ref, location, partial(copies.begin_read_copy, which, *where, 0, SEGMENT_BYTES)
            )
            for which in (0, 1)
        ]
        for which in (0, 1):
            if bad[which] and not bad[1 - which] and self._log.table.is_at(ref, location):
                request.repaired += await self._repair(ref, location, copies, which)
        return {page: why for page, why in bad[0].items() if page in bad[1]}

    async def _repair(self, ref: SegmentRef, location: Location, copies: Copies, bad: int) -> bool:
        """Whether the copy ``bad`` was written anew.  It takes a frame meanwhile."""
        frame = self._log.frames.take(cleaning=True)
        if frame == NO_FRAME:
            return False
        memory = self._log.frame_view(frame)
        begin = partial(
            copies.begin_repair,
            bad,
            location.extent,
            ref.sequence,
            memory,
            partial(self._is_sound, ref),
        )
        try:
            with trio.CancelScope(shield=True):  # the write is not cancellable
                error: OSError | None = await await_callback(begin)
        finally:
            memory.release()
            self._log.frames.give_back(frame)
        self.counters.scrub_repairs += error is None
        if error is not None:
            log.warning("a copy of segment %d is not repaired: %s", ref.id, error)
        return error is None

    def _is_sound(self, ref: SegmentRef, stored: bytes) -> bool:
        """Whether nothing of what the good copy has just given is bad."""
        directory = stored[self._log.table.bounds_of(ref.id)[1] :]
        for page in set(page_array(directory)):
            word = self._slots.get(page) if page < self._slots.page_count else 0
            if is_object_of(word, ref.id) and not is_corrupt(word):
                end = offset_of(word) + CHECK_BYTES + length_of(word)
                if not self._decoder.is_sound(stored[offset_of(word) : end], codec_of(word)):
                    return False
        return self._log.table.is_current(ref)

    async def _bad_pages(
        self, ref: SegmentRef, location: Location, read: Callable[[Read], None]
    ) -> dict[PageNumber, str]:
        """Pages of the segment, ``read`` now, that are not right there."""
        stored: bytes | OSError = await await_callback(read)
        directory = b""
        if isinstance(stored, bytes):
            directory = stored[self._log.table.bounds_of(ref.id)[1] :]
        words = await self._words_of(ref.id, directory)
        bad: dict[PageNumber, str] = {}
        for count, (page, word) in enumerate(words.items()):
            if not count % _OBJECTS_A_TURN:
                await trio.lowlevel.checkpoint()
            if not self._log.table.is_at(ref, location):
                return {}
            if not is_same_object(self._slots.get(page), word):
                continue
            self.counters.scrubbed_pages += 1
            if not isinstance(stored, bytes):
                bad[page] = f"it can't be read: {stored}"
                continue
            end = offset_of(word) + CHECK_BYTES + length_of(word)
            if not self._decoder.is_sound(stored[offset_of(word) : end], codec_of(word)):
                bad[page] = _MISMATCH
        return bad

    async def _words_of(self, segment: SegmentId, directory: bytes) -> dict[PageNumber, int]:
        """Pages of ``segment`` and their words.

        By its ``directory``, which has one page of an object at most.  Where that is not all of
        them, all words are looked at.
        """
        slots, words = self._slots, {}
        for page in set(page_array(directory)):
            word = slots.get(page) if page < slots.page_count else 0
            if is_object_of(word, segment) and not is_corrupt(word):
                words[page] = word
        if len(words) == self._log.table.live[segment]:
            return words
        page = FIRST_PAGE
        while page < slots.page_count:
            found, page = slots.sweep(segment, page)
            words.update({one: slots.get(one) for one in found})
            await trio.lowlevel.checkpoint()
        return words

    def _note(self, request: ScrubRequest, page: PageNumber, why: str) -> None:
        self.counters.scrub_bad_pages += 1
        request.note_bad(page, why)
