"""The health of a tier: after a write that failed it rests, longer each time.

A rest begins at 0.1 s and doubles with each failure, up to 5 s.  A write that succeeds sets
it back.  Stores wait for a rest of up to 1 s; while a longer one lasts they are refused.
"""

from __future__ import annotations

import logging

import trio

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_WORTH_WAITING_S = 1.0


class TierHealth:
    """Whether a tier, or the backing file of places, may be written to now."""

    def __init__(self) -> None:
        self._rests_until = 0.0
        self._backoff_s = _FIRST_BACKOFF_S

    @property
    def rests_until(self) -> float:
        """When the rest is over, or was, in trio's time."""
        return self._rests_until

    @property
    def is_resting(self) -> bool:
        """Whether no write may begin yet."""
        return trio.current_time() < self._rests_until

    @property
    def rests_briefly(self) -> bool:
        """Whether it rests, but stores should wait for the next try."""
        return self.is_resting and self._backoff_s <= _WORTH_WAITING_S

    async def rest(self) -> None:
        """Wait until the rest is over."""
        await trio.sleep_until(self._rests_until)

    def note_success(self) -> None:
        """A write succeeded: the next rest is the shortest."""
        self._backoff_s = _FIRST_BACKOFF_S

    def note_failure(self, exc: OSError) -> None:
        """A write failed: leave the tier alone for a while."""
        if self.is_resting:
            return  # another of the same batch
        self._rests_until = trio.current_time() + self._backoff_s
        log.error("writeback failed, next try in %.1f s: %s", self._backoff_s, exc)
        self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
