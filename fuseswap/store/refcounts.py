"""How many pages share an object: a small table for each segment that has shared ones.

Derived, and private to the worker: the next one counts again.  A table is open addressing in
32-bit entries, offset (20 bits) << 12 | references (12 bits), 0 where free:

    place = hash of the offset, then the next one, ...; a deletion shifts back what follows

Not one table for all: each goes with its segment, is counted by segment at a start, and grows by
itself.  Growing moves 2048 entries at most, in 0.5 ms.  So 4096 objects of a segment may be shared;
objects of 256 bytes fill a segment with as many.  Each may have `MOST` pages more than one.
Copies beyond that are stored a second time.
"""

from __future__ import annotations

from array import array

from fuseswap.store.slot_word import offset_of, segment_of
from fuseswap.units import SegmentId

MOST = 4094  # one less than fits: while a worker counts, the first one is counted too
_COUNT_BITS = 12
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_LEAST_ENTRIES = 8
_MOST_ENTRIES = 8192
_GOLDEN = 0x9E3779B1
_OBJECT_BYTES = 200  # what Python needs beside the entries: object, array, place in the dict


class _Table:
    """Entries of one segment, at most half of them used."""

    __slots__ = ("entries", "used")

    def __init__(self, size: int) -> None:
        self.entries = array("I", bytes(4 * size))
        self.used = 0

    def place_of(self, offset: int) -> int:
        """Where the entry of ``offset`` is, or would be."""
        entries = self.entries
        mask = len(entries) - 1
        at = (offset * _GOLDEN >> 12) & mask
        while (entry := entries[at]) and entry >> _COUNT_BITS != offset:
            at = at + 1 & mask
        return at

    def put(self, entry: int) -> None:
        """Add an entry that is not there; there must be room."""
        self.entries[self.place_of(entry >> _COUNT_BITS)] = entry
        self.used += 1

    def remove(self, hole: int) -> None:
        """Take the entry at ``hole`` out; entries that it pushed on move back."""
        entries = self.entries
        mask = len(entries) - 1
        at = hole
        while entry := entries[at := at + 1 & mask]:
            home = (entry >> _COUNT_BITS) * _GOLDEN >> 12 & mask
            if at - home & mask >= at - hole & mask:
                entries[hole] = entry
                hole = at
        entries[hole] = 0
        self.used -= 1


class Refcounts:
    """References by location; a location is told by its slot word."""

    def __init__(self) -> None:
        self._tables: dict[SegmentId, _Table] = {}
        self._entries = 0

    @property
    def allocated_bytes(self) -> int:
        """Memory of all tables, about."""
        return 4 * self._entries + _OBJECT_BYTES * len(self._tables)

    def count(self, word: int) -> int:
        """References to the object of ``word``."""
        table = self._tables.get(segment_of(word))
        if table is None:
            return 0
        place = table.place_of(offset_of(word))
        return table.entries[place] & _COUNT_MASK

    def add(self, word: int, *, bounded: bool = True) -> int:
        """One more; returns how many there are now, 0 where there is no room for it."""
        segment = segment_of(word)
        offset = offset_of(word)
        table = self._tables.get(segment)
        if table is None:
            table = self._tables[segment] = _Table(_LEAST_ENTRIES)
            self._entries += _LEAST_ENTRIES
        place = table.place_of(offset)
        entry = table.entries[place]
        if entry:
            if entry & _COUNT_MASK >= MOST + (not bounded):
                return 0
            table.entries[place] = entry + 1
            return (entry & _COUNT_MASK) + 1
        if 2 * table.used >= len(table.entries):
            if bounded and len(table.entries) >= _MOST_ENTRIES:
                return 0
            self._replace(segment, 2 * len(table.entries), 0)
            table = self._tables[segment]
        table.put(offset << _COUNT_BITS | 1)
        return 1

    def drop(self, word: int) -> int:
        """One less; returns how many are left, -1 where there was none."""
        table = self._tables.get(segment_of(word))
        if table is None:
            return -1
        place = table.place_of(offset_of(word))
        entry = table.entries[place]
        if not entry:
            return -1
        left = (entry & _COUNT_MASK) - 1
        if left:
            table.entries[place] = entry - 1
        else:
            table.remove(place)
            if not table.used:
                self.forget(segment_of(word))
        return left

    def settle(self, segment: SegmentId) -> int:
        """Take one off every object of ``segment``; returns how many references are left."""
        table = self._tables.get(segment)
        if table is None:
            return 0
        left = sum((entry & _COUNT_MASK) - 1 for entry in table.entries if entry)
        if not left:
            self.forget(segment)
            return 0
        kept = sum(entry & _COUNT_MASK > 1 for entry in table.entries)
        size = _LEAST_ENTRIES
        while size < 2 * kept:
            size *= 2
        self._replace(segment, size, 1)
        return left

    def forget(self, segment: SegmentId) -> None:
        """The segment is gone, and all that was in it."""
        table = self._tables.pop(segment, None)
        if table is not None:
            self._entries -= len(table.entries)

    def _replace(self, segment: SegmentId, size: int, less: int) -> None:
        """Another table of ``size`` entries with ``less`` references to each object."""
        old = self._tables[segment]
        new = self._tables[segment] = _Table(size)
        self._entries += size - len(old.entries)
        for entry in old.entries:
            if entry & _COUNT_MASK > less:
                new.put(entry - less)
