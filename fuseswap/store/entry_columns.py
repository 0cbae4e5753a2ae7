"""Entries of the segment table by the thousand: their bytes, column by column.

A new worker looks at every entry before it serves, and a tier of 1 TiB has a million.  One by one
that takes seconds.  So each byte of word 0 is a column, and a column is looked at in one call.

The check is a CRC without an initial value, so it is linear.  For each byte of word 0 a table has
its part of the check, and the exclusive or of the parts is the check.
"""

from __future__ import annotations

from array import array
from binascii import crc_hqx
from collections.abc import Iterator
from itertools import compress
from typing import cast

from fuseswap.store.geometry import SEGMENT_ENTRY_BYTES
from fuseswap.store.segment_entry import EXTENT_MASK, Mark, SegmentState, is_known_stream
from fuseswap.units import SegmentId

_BYTES = range(256)
_AT = (0, 1, 4, 5, 6, 7)  # bytes of word 0: state, stream and marks, location


def _tables() -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """For both bytes of the check: which bytes of word 0 count, and what each value of it adds."""
    low, high = [(2, bytes(_BYTES))], [(3, bytes(_BYTES))]
    for place, at in enumerate(_AT):
        checks = [crc_hqx(bytes(place) + bytes((b,)) + bytes(5 - place), 0) for b in _BYTES]
        low.append((at, bytes(check & 0xFF for check in checks)))
        high.append((at, bytes(check >> 8 for check in checks)))
    return low, high


def _where(is_one: list[bool]) -> bytes:
    """A table for `bytes.translate`: 1 for a byte that is one, else 0."""
    return bytes(is_one)


_LOW, _HIGH = _tables()
_SOME = _where([byte != 0 for byte in _BYTES])
_NO_STATE = _where([byte > SegmentState.LOST for byte in _BYTES])
_NO_STREAM = _where([not is_known_stream(byte) for byte in _BYTES])
_FREE = _where([byte == SegmentState.FREE for byte in _BYTES])
_ON_TIER = _where([byte == SegmentState.ON_TIER for byte in _BYTES])
_IN_FRAME = _where([byte in (SegmentState.OPEN, SegmentState.SEALED) for byte in _BYTES])
_LOST = _where([byte == SegmentState.LOST for byte in _BYTES])
_SHARED = _where([byte & Mark.SHARED != 0 for byte in _BYTES])
_TRIED = _where([byte & Mark.TRIED != 0 for byte in _BYTES])


class EntryColumns:
    """Whole entries from that of segment ``first`` on, as they were when ``raw`` was copied."""

    def __init__(self, first: int, raw: bytes) -> None:
        self._ids = range(first, first + len(raw) // SEGMENT_ENTRY_BYTES)
        self._raw = raw
        self._states = self._column(0)
        self._streams = self._column(1)

    def _column(self, at: int) -> bytes:
        return self._raw[at::SEGMENT_ENTRY_BYTES]

    def _ids_where(self, flags: bytes) -> Iterator[SegmentId]:
        return cast("Iterator[SegmentId]", compress(self._ids, flags))

    def unsound(self) -> list[SegmentId]:
        """Those whose word 0 is none that was written so."""
        wrong = _number(self._states.translate(_NO_STATE))
        wrong |= _number(self._streams.translate(_NO_STREAM))
        for tables in (_LOW, _HIGH):
            check = 0
            for at, table in tables:
                check ^= _number(self._column(at).translate(table))
            wrong |= check
        if not wrong:
            return []
        return list(self._ids_where(wrong.to_bytes(len(self._ids), "little").translate(_SOME)))

    def newest_sequence(self) -> int:
        """The highest there is."""
        return max(array("Q", self._raw)[2::4])

    def free(self) -> list[SegmentId]:
        """Free ones."""
        return list(self._ids_where(self._states.translate(_FREE)))

    def in_frames(self) -> Iterator[SegmentId]:
        """Open ones, and those sealed and in memory."""
        return self._ids_where(self._states.translate(_IN_FRAME))

    def lost(self) -> Iterator[SegmentId]:
        """Those whose entry was corrupt."""
        return self._ids_where(self._states.translate(_LOST))

    def shared(self) -> Iterator[SegmentId]:
        """Those with `Mark.SHARED`."""
        return self._ids_where(self._streams.translate(_SHARED))

    def tried_count(self) -> int:
        """How many have `Mark.TRIED`."""
        return self._streams.translate(_TRIED).count(1)

    def on_tiers(self) -> Iterator[tuple[int, bytes, array[int]]]:
        """By tier: its number, a byte of 1 for each segment there, and their extents."""
        on_tier = self._states.translate(_ON_TIER)
        tiers = self._column(7)
        places = array("I", self._raw)[1::8]
        for tier in sorted(set(compress(tiers, on_tier))):
            is_it = _number(tiers.translate(_where([byte == tier for byte in _BYTES])))
            flags = (is_it & _number(on_tier)).to_bytes(len(tiers), "little")
            extents = array("I", compress(places, flags))
            if tier:
                extents = array("I", (place & EXTENT_MASK for place in extents))
            yield tier, flags, extents


def _number(column: bytes) -> int:
    return int.from_bytes(column, "little")
