"""Where each segment is, one byte a segment, so that all of one kind are found quickly.

    NOWHERE     free
    FRESH       in memory, and recompressing it may gain something
    DONE        in memory, and it was recompressed, or gained nothing
    LOST        its entry was corrupt
    `on_tier`   on a tier; a few tiers share a byte, so look again

Derived from word 0 of the entries.  A walk searches for a byte, which skips a million others in
50 us.  So its time is bounded by the segments that it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from fuseswap.store.segment_entry import (
    Mark,
    SegmentState,
    Stream,
    location_in,
    stream_and_marks,
    stream_in,
)
from fuseswap.units import NO_SEGMENT, Location, SegmentId

NOWHERE: Final = 0
FRESH: Final = 1
DONE: Final = 2
LOST: Final = 3
IN_MEMORY: Final = (FRESH, DONE)
_FIRST_TIER = 4
_TIERS = 256 - _FIRST_TIER

RECOMPRESSED = (Stream.EVICTED, Stream.RECOMPRESSED)


def on_tier(tier: int) -> int:
    """The byte of segments on ``tier``."""
    return _FIRST_TIER + tier % _TIERS


def place_in(word: int) -> int:
    """The byte for word 0 of an entry."""
    where = location_in(word)
    if isinstance(where, Location):
        return on_tier(where.tier)
    if where is None:
        return NOWHERE if word & 0xFF == SegmentState.FREE else LOST
    done = stream_in(word) in RECOMPRESSED or stream_and_marks(word) & Mark.TRIED
    return DONE if done else FRESH


class SegmentPlaces:
    """Of one segment table.  ``kinds``: a byte each, by id."""

    def __init__(self) -> None:
        self.kinds = bytearray(1)

    def note(self, segment: SegmentId, word: int) -> None:
        """Word 0 of ``segment`` is ``word`` now."""
        self.kinds[segment] = place_in(word)

    def note_on_tier(self, tier: int, first: int, flags: bytes) -> None:
        """Of those from ``first`` on that are nowhere yet each with a 1 in ``flags`` is there."""
        end = first + len(flags)
        there = int.from_bytes(flags.translate(bytes((0, on_tier(tier))).ljust(256)), "little")
        there |= int.from_bytes(self.kinds[first:end], "little")
        self.kinds[first:end] = there.to_bytes(len(flags), "little")

    def walk(
        self, kinds: tuple[int, ...], first: int = 1, end: int | None = None
    ) -> Iterator[SegmentId]:
        """Ids of ``kinds`` from ``first`` to before ``end``, in order, as they are while it goes.

        What changes behind the next one of each kind is seen, and no more.
        """
        find = self.kinds.find
        last = len(self.kinds) if end is None else end
        nearest = {kind: at for kind in kinds if (at := find(kind, first, last)) >= 0}
        while nearest:
            kind = min(nearest, key=nearest.__getitem__)
            found = nearest[kind]
            at = find(kind, found + 1, last)
            if at < 0:
                del nearest[kind]
            else:
                nearest[kind] = at
            yield cast("SegmentId", found)

    def round_from(self, kinds: tuple[int, ...], segment: SegmentId) -> Iterator[SegmentId]:
        """All ids of ``kinds`` once, from behind ``segment`` round to it."""
        middle = min(segment + 1, len(self.kinds))
        yield from self.walk(kinds, middle)
        yield from self.walk(kinds, 1, middle)

    def next_of(self, kind: int, after: SegmentId) -> SegmentId:
        """The first id of ``kind`` behind ``after``; 0: there is none."""
        at = self.kinds.find(kind, after + 1)
        return NO_SEGMENT if at < 0 else cast("SegmentId", at)
