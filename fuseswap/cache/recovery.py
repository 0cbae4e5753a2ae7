"""Rebuild everything derived from the slot table: the first act of a new worker.

Reads each present cluster once.  A word that cannot be right (odd parity, a
segment that does not exist) stays, with odd parity, so that a load of that page says
EIO instead of zeros, and is counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fuseswap.cache.codecs import FILL, LAST_RAW
from fuseswap.cache.segments import OBJECT_OVERHEAD, SegmentLog
from fuseswap.cache.slots import (
    CODEC_SHIFT,
    KIND_MASK,
    LENGTH_MASK,
    LENGTH_SHIFT,
    OBJECT,
    PARITY,
    SAME_FILLED,
    SEGMENT_ID_SHIFT,
    SlotTable,
)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found: pages by kind, and words that cannot be right."""

    same_filled_pages: int
    incompressible_pages: int
    in_place_pages: int
    corrupt_words: int


def rebuild(slots: SlotTable, log: SegmentLog, *, in_place: bool = False) -> Recovered:
    """Count live objects from ``slots`` and let ``log`` adopt its segments.

    ``in_place``: words of that kind are somebody's, and not corrupt.
    """
    live: Counter[int] = Counter()
    live_bytes: Counter[int] = Counter()
    same_filled = incompressible = placed = corrupt = 0
    for first, words in slots.clusters():
        for index, word in enumerate(words):
            if not word:
                continue
            kind = word & KIND_MASK
            if word.bit_count() & 1:
                corrupt += 1
            elif kind == OBJECT:
                segment = word >> SEGMENT_ID_SHIFT
                if not log.exists(segment):
                    corrupt += 1
                    slots.words[first + index] = word ^ PARITY  # EIO now, and whoever gets the id
                    continue
                live[segment] += 1
                live_bytes[segment] += (word >> LENGTH_SHIFT & LENGTH_MASK) + 1 + OBJECT_OVERHEAD
                codec = word >> CODEC_SHIFT & 0xF
                incompressible += codec <= LAST_RAW
                same_filled += codec == FILL
            elif kind == SAME_FILLED:
                same_filled += 1
            elif in_place:
                placed += 1
            else:
                corrupt += 1
    log.adopt(live, live_bytes)
    return Recovered(same_filled, incompressible, placed, corrupt)
