"""Which backend of a plugin is at work, and at what, noted where it outlives the worker.

    bytes 0 to 63   which one, and deaths by number (``codecs/call_notes.py``)
    byte 64         u64, what it is at: a cookie that is got, `MAKING` or `OTHERWISE`
    byte 72         u64, number and what, of the last worker that ended inside of one
    byte 80         workers in a row that ended at just that

One that never returns is set aside as a codec is, and its pages are still loaded.  So the page that
it hangs for would end worker after worker.  After `MOST_DEATHS` in a row at the same cookie that
page is an error, and no other.

Hints, as those of codecs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from fuseswap.codecs.call_notes import MOST_DEATHS, CallNotes

_NUMBERS = range(1, 64)  # of the first backends; those after them are not watched
_AT = struct.Struct("<Q")
_LAST = struct.Struct("<QB")
_AT_PLACE, _LAST_PLACE = 64, 72
SHELF_NOTES_BYTES = _LAST_PLACE + _LAST.size + 7
_COOKIE_BITS = 32
MAKING = 1 << _COOKIE_BITS
OTHERWISE = MAKING + 1
_NUMBER_SHIFT = _COOKIE_BITS + 1

A = TypeVar("A")
B = TypeVar("B")


class ShelfNotes:
    """`SHELF_NOTES_BYTES` of ``buffer``, from ``at``."""

    def __init__(self, buffer: bytearray | memoryview, at: int = 0) -> None:
        self._buffer = buffer
        self._calls = CallNotes(buffer, at, _NUMBERS)
        self._at, self._last = at + _AT_PLACE, at + _LAST_PLACE
        self.deaths = self._calls.deaths
        self.forget = self._calls.forget

    def read_death(self) -> int:
        """As `CallNotes.read_death`, of backends."""
        number = self._calls.read_death()
        if number:
            (what,) = _AT.unpack_from(self._buffer, self._at)
            here = _whole(number, what)
            last, row = _LAST.unpack_from(self._buffer, self._last)
            row = min(row + 1, 255) if last == here else 1
            _LAST.pack_into(self._buffer, self._last, here, row)
        return number

    def ends_workers(self, number: int, what: int) -> bool:
        """Whether the last `MOST_DEATHS` workers that ended in a backend did at just this."""
        last, row = _LAST.unpack_from(self._buffer, self._last)
        return row >= MOST_DEATHS and bool(last == _whole(number, what))

    def watched(
        self, number: int, work: Callable[[A], B], what_of: Callable[[A], int]
    ) -> Callable[[A], B]:
        """``work`` of the backend of ``number``, noted while it is at ``what_of`` its argument."""
        if number not in _NUMBERS:
            return work
        noted = self._calls.watched(number, work)
        buffer, at = self._buffer, self._at

        def watched(given: A) -> B:
            _AT.pack_into(buffer, at, what_of(given))
            return noted(given)

        return watched


def _whole(number: int, what: int) -> int:
    return number << _NUMBER_SHIFT | what & (1 << _NUMBER_SHIFT) - 1
