"""The health of a tier: after a write that failed it rests, longer each time.

A rest begins at 0.1 s and doubles with each failure, up to 5 s.  A write that succeeds sets
it back.  Stores wait for a rest of up to 1 s; while a longer one lasts they are refused.

After a rest one write tries.  Others go elsewhere until it has succeeded.  A server that does not
answer would have all of them, each until it times out.

A server that many share is full when it says so (ENOSPC), which is no failure.  It is asked again
after `FULL_S`, with one write too.
"""

from __future__ import annotations

import errno
import logging

import trio

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_WORTH_WAITING_S = 1.0
FULL_S = 5.0


class TierHealth:
    """Whether a tier, or the backing file of places, may be written to now."""

    def __init__(self) -> None:
        self._rests_until = 0.0
        self._backoff_s = _FIRST_BACKOFF_S
        self._full_until = 0.0
        self._was_full = False
        self.shares_room = False  # with others, so it may be full at any time
        self.writing = 0  # writes that have begun and not ended

    @property
    def takes_one(self) -> bool:
        """Whether a write may begin now."""
        if self.is_resting or self.is_full:
            return False
        is_well = self._backoff_s == _FIRST_BACKOFF_S and not self._was_full
        return is_well or not self.writing

    @property
    def is_full(self) -> bool:
        """Whether it has said so, a moment ago."""
        return trio.current_time() < self._full_until

    def says_full(self, error: OSError) -> bool:
        """Whether ``error`` means that, and no failure."""
        return self.shares_room and error.errno == errno.ENOSPC

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
        self._was_full = False

    def note_full(self, exc: OSError) -> None:
        """It says that it is full."""
        if not self._was_full:
            log.warning("no segment goes there until it has room again: %s", exc)
        self._was_full = True
        self._full_until = trio.current_time() + FULL_S

    def note_failure(self, exc: OSError) -> None:
        """A write failed: leave the tier alone for a while."""
        if self.is_resting:
            return  # another of the same batch
        self._rests_until = trio.current_time() + self._backoff_s
        log.error("writeback failed, next try in %.1f s: %s", self._backoff_s, exc)
        self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
