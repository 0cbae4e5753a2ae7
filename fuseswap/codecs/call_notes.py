"""Which plugin is at work, noted where it outlives the worker: a codec, or a backend.

    byte 0    number of the one that is called now; 0: none
    the rest  by number, 9 to 15 of codecs: workers in a row that ended inside that one

One that never returns, or that ends the process, can't be caught.  The watchdog or the kernel
ends the worker, the kernel sends the page again, and the next worker ends as well.  So each reads
here where the last one ended.  After `MOST_DEATHS` in a row the plugin is set aside.  A worker that
got `_FINE_CALLS` answers from it begins a new row: any worker may be killed at any time.

Hints: no page depends on them, and a wrong one sets a plugin aside or does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fuseswap.codecs.codec import REGISTERED

NOTES_BYTES = REGISTERED.stop
MOST_DEATHS = 3
_FINE_CALLS = 1000

A = TypeVar("A")
B = TypeVar("B")


class CallNotes:
    """``numbers.stop`` bytes of ``buffer``, from ``at``: `NOTES_BYTES` for codecs."""

    def __init__(
        self, buffer: bytearray | memoryview, at: int = 0, numbers: range = REGISTERED
    ) -> None:
        self._numbers = numbers
        self._buffer = buffer
        self._at = at

    def read_death(self) -> int:
        """The plugin in which the last worker ended, 0: none; counts it, and forgets which.

        Once, under the lock of the state, before anything is called.
        """
        number = self._buffer[self._at]
        self._buffer[self._at] = 0
        if number not in self._numbers:
            return 0
        at = self._at + number
        self._buffer[at] = min(self._buffer[at] + 1, 255)
        return number

    def deaths(self, number: int) -> int:
        """Workers in a row that ended inside the one of ``number``."""
        return self._buffer[self._at + number]

    def forget(self, number: int) -> None:
        """It answers."""
        self._buffer[self._at + number] = 0

    def watched(self, number: int, work: Callable[[A], B]) -> Callable[[A], B]:
        """``work`` of the one of ``number``, noted while it is at it: 0.3 us a call."""
        buffer, at = self._buffer, self._at
        calls = 0

        def watched(given: A) -> B:
            nonlocal calls
            buffer[at] = number
            try:
                return work(given)
            finally:
                buffer[at] = 0
                calls += 1
                if calls == _FINE_CALLS:
                    self.forget(number)

        return watched
