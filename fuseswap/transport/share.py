"""The share of the loop's time that requests for anything but the swapfile may take.

A statistic is rendered in a tenth of a millisecond, and a loop in a shell asks for thousands a
second.  The swap has to be served meanwhile.  So what these requests took is counted.  They save
up what they did not use, and what goes beyond that waits:

    left    grows by `SHARE_PERCENT` of the time that passes, up to `_MOST_NS`
    spend   takes the time of a request from it, below zero at most by that one
    spent   it is not above zero: the next one waits, for `wait_s`
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE_PERCENT = 5
_MOST_NS = 100_000_000  # a person's `status` and `top` never wait


class Share:
    """``percent`` of what ``clock`` says, in nanoseconds."""

    __slots__ = ("_at_ns", "_clock", "_left_ns", "_percent")

    def __init__(
        self, percent: int = SHARE_PERCENT, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._percent = percent
        self._clock = clock
        self._at_ns = clock()
        self._left_ns = _MOST_NS

    def now_ns(self) -> int:
        """When a request begins: what `spend_since` is given."""
        return self._clock()

    def spend_since(self, began_ns: int) -> None:
        """One took from then until now."""
        self._left_ns -= self._clock() - began_ns

    @property
    def is_spent(self) -> bool:
        """Whether the next one has to wait."""
        now = self._clock()
        grown = (now - self._at_ns) * self._percent // 100
        self._left_ns = min(self._left_ns + grown, _MOST_NS)
        self._at_ns = now
        return self._left_ns <= 0

    def wait_s(self) -> float:
        """How long the next one has to wait, in seconds; a little more than nothing."""
        return max(0, 1 - self._left_ns) * 100 / self._percent / 1e9
