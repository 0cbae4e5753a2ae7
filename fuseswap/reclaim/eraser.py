"""Erases what no page needs of a segment that goes where others can read it.

    look at the directory -> are these all? else at the whole slot table -> zeros between them

A frame holds more than its live objects: dead ones, padding, and what the frame had before.  None
of that leaves memory for a tier that `is_readable`.  An encrypted tier gets all of it.

Sealed bytes that a page needs never change; these are others.  No object of the segment comes to
life meanwhile, since it is closed to shares.  One that dies meanwhile is written, as is one that
dies a moment later.  The directory has to give as many as live, and none may have died since.  So
an owner record with a flipped bit does not cost its page.

In slices, with a turn for others in between: 0.1 ms each.  A sweep of the slot table takes 0.4 ms
for each GiB of pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.store.segment_entry import Mark
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import length_of, offset_of
from fuseswap.units import FIRST_PAGE, SEGMENT_BYTES, PageNumber, SegmentId, page_array

_SLICE = 256
_ZEROS = memoryview(bytes(64 << 10))

# Where live objects begin and end: as many as there are in a segment.
Spans = list[tuple[int, int]]


class Eraser:
    """Of the segments of ``segment_log``, whose words are in ``slots``."""

    def __init__(self, slots: SlotTable, segment_log: SegmentLog) -> None:
        self._slots = slots
        self._log = segment_log

    async def erase(self, segment: SegmentId, frame: int, is_there: Callable[[], bool]) -> None:
        """Make zeros of what no page needs of a sealed ``segment``, whose bytes are in ``frame``.

        ``is_there`` says whether they still are; nothing is touched once they are not.
        """
        self._log.close_to_shares(segment)
        try:
            spans = await self._in_directory(segment, frame, is_there)
            if spans is None:
                spans = await self._in_table(segment, is_there)
            await self._clear_between(sorted(spans), segment, frame, is_there)
        finally:
            self._log.open_to_shares(segment)

    def _spans_of(self, segment: SegmentId, pages: Iterable[PageNumber]) -> Spans:
        return [
            (offset_of(word), offset_of(word) + CHECK_BYTES + length_of(word))
            for word in self._slots.words_in(segment, pages)
        ]

    async def _in_directory(
        self, segment: SegmentId, frame: int, is_there: Callable[[], bool]
    ) -> Spans | None:
        """The live objects by their owners; None where some may be missing."""
        table = self._log.table
        live = table.live[segment]
        if table.is_marked(segment, Mark.SHARED):
            return None
        with self._log.frame_view(frame) as view:
            owners = page_array(set(page_array(bytes(view[table.bounds_of(segment)[1] :]))))
        spans: Spans = []
        for first in range(0, len(owners), _SLICE):
            spans += self._spans_of(segment, owners[first : first + _SLICE])
            if first + _SLICE < len(owners):
                await trio.lowlevel.checkpoint()
                if not is_there():
                    break
        return spans if len(spans) == live == table.live[segment] else None

    async def _in_table(self, segment: SegmentId, is_there: Callable[[], bool]) -> Spans:
        """The same by all words; an object several times where several pages have it."""
        spans: Spans = []
        first = FIRST_PAGE
        while first < self._slots.page_count and is_there():
            pages, first = self._slots.sweep(segment, first)
            spans += self._spans_of(segment, pages)
            if first < self._slots.page_count:
                await trio.lowlevel.checkpoint()
        return spans

    async def _clear_between(
        self, spans: Spans, segment: SegmentId, frame: int, is_there: Callable[[], bool]
    ) -> None:
        spans.append((self._log.table.bounds_of(segment)[1], SEGMENT_BYTES))  # the directory
        at = 0
        for first in range(0, len(spans), _SLICE):
            if not is_there():
                return
            with self._log.frame_view(frame) as view:
                for start, end in spans[first : first + _SLICE]:
                    while at < start:
                        piece = min(start - at, len(_ZEROS))
                        view[at : at + piece] = _ZEROS[:piece]
                        at += piece
                    at = max(at, end)
            if first + _SLICE < len(spans):
                await trio.lowlevel.checkpoint()
