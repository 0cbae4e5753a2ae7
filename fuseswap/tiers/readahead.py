"""Read-ahead on a tier: a stream of faults that goes forward gets more than it asked for.

Pages that were swapped out together lie together in their segment, and are often wanted
together.  The second read of a segment that begins where one has ended brings a window of
`WINDOW_BYTES`.  Reads within it are answered from memory (or wait for it), and the first one
beyond it opens the next.

A window is known by location and sequence.  The bytes of a segment on a tier never change,
so it can't be stale.  A window that can't be read costs nothing: those who wait
for it read on their own.  Where it was too late, they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from fuseswap.tiers.tier import is_late
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES, Location

WINDOW_BYTES = 32 * PAGE_SIZE
_GAP_BYTES = 4 * PAGE_SIZE  # dead and hot objects lie between those that are read
_STREAMS = 8

Done = Callable[["bytes | OSError"], None]
# Location, sequence, offset and length.
Begin = Callable[[Location, int, int, int, Done], None]


@dataclass(slots=True)
class _Stream:
    """Reads of one segment: where the last one ended, and the window, if there is one."""

    next: int = -SEGMENT_BYTES
    start: int = 0
    end: int = 0
    data: bytes | None = None
    # For the window: at most as many as the kernel has reads in flight.
    waiting: list[tuple[int, int, Done, Callable[[], None]]] = field(default_factory=list)


class ReadAhead:
    """Windows of segments, read by ``begin``.  Counts ``reads`` and ``hits``."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        # `_STREAMS` at most, each with `WINDOW_BYTES`.
        self._streams: OrderedDict[tuple[Location, int], _Stream] = OrderedDict()
        self.reads = 0
        self.hits = 0

    def begin_read(
        self,
        where: tuple[Location, int],
        offset: int,
        length: int,
        done: Done,
        alone: Callable[[], None],
    ) -> None:
        """Read ``length`` bytes at ``offset`` of ``where`` (location and sequence).

        Calls ``done`` with them, perhaps at once, or ``alone`` where the caller has to read.
        """
        stream = self._streams.pop(where, None) or _Stream()
        self._streams[where] = stream
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        end = offset + length
        goes_on = 0 <= offset - stream.next <= _GAP_BYTES
        stream.next = end
        if stream.start <= offset and end <= stream.end:
            self.hits += 1
            if stream.data is None:
                stream.waiting.append((offset, end, done, alone))
            else:
                done(stream.data[offset - stream.start : end - stream.start])
        elif goes_on and not stream.waiting and end + PAGE_SIZE <= SEGMENT_BYTES:
            self.reads += 1
            stream.start = offset
            stream.end = min(offset + WINDOW_BYTES, SEGMENT_BYTES)
            stream.data = None
            stream.waiting.append((offset, end, done, alone))
            size = stream.end - offset
            self._begin(*where, offset, size, lambda found: self._arrived(stream, offset, found))
        else:
            alone()

    def _arrived(self, stream: _Stream, start: int, found: bytes | OSError) -> None:
        """Answer who waits for the window at ``start``; an answer may open the next one."""
        waiting, stream.waiting = stream.waiting, []
        if isinstance(found, bytes):
            stream.data = found
            for offset, end, done, _ in waiting:
                done(found[offset - start : end - start])
            return
        stream.end = stream.start
        for _, _, done, alone in waiting:
            if is_late(found):
                done(found)
            else:
                alone()
