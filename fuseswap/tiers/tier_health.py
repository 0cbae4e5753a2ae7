"""The health of a tier: after a write that failed it rests, longer each time.

A rest begins at 0.1 s and doubles with each failure, up to 5 s.  A write that succeeds sets
it back.  Stores wait for a rest of up to 1 s; while a longer one lasts they are refused.

After a rest one write tries.  Others go elsewhere until it has succeeded.  A server that does not
answer would have all of them, each until it times out.

A disk that hangs fails nothing: its writes just do not end.  Where none has ended for
`tier_timeout` it is late.  It gets no more until they have ended, and no store waits for them.

A server that many share is full when it says so (ENOSPC), which is no failure.  It is asked again
after `FULL_S`, with one write too.
"""

from __future__ import annotations

import errno
import logging
import math

import trio

from fuseswap.tiers.tier import TIER_TIMEOUT_S

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_WORTH_WAITING_S = 1.0
FULL_S = 5.0


class TierHealth:
    """Whether a tier, or the backing file of places, may be written to now."""

    def __init__(self, name: str = "backing file") -> None:
        """``name``: in the log."""
        self.name = name
        self._rests_until = 0.0
        self._backoff_s = _FIRST_BACKOFF_S
        self._full_until = 0.0
        self._was_full = False
        self.shares_room = False  # with others, so it may be full at any time
        self.writing = 0  # writes that have begun and not ended
        self.timeout_s = TIER_TIMEOUT_S
        self._silent_since = 0.0
        self._said_late = False

    def begin(self) -> None:
        """A write begins."""
        # On one line: a crash is tested before each, and tasks come in any order.
        self._silent_since = self._silent_since if self.writing else trio.current_time()
        self.writing += 1

    def end(self) -> None:
        """A write has ended, however it did."""
        self.writing -= 1
        self._silent_since = trio.current_time()
        if self._said_late and not self.writing:
            self._said_late = False
            log.warning("%s: all writes have ended that were late", self.name)

    @property
    def late_at(self) -> float:
        """When it is late unless a write ends before; infinite where there is none."""
        return self._silent_since + self.timeout_s if self.writing else math.inf

    @property
    def is_late(self) -> bool:
        """Whether writes have begun, and none has ended for `timeout_s`."""
        if self._said_late:
            return True
        if trio.current_time() < self.late_at:
            return False
        self._said_late = True
        log.error(
            "%s: %d writes are not answered, and it gets no more until they are",
            self.name,
            self.writing,
        )
        return True

    @property
    def takes_one(self) -> bool:
        """Whether a write may begin now."""
        if self.is_resting or self.is_full or self.is_late:
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
            log.warning("%s: no segment goes there until it has room again: %s", self.name, exc)
        self._was_full = True
        self._full_until = trio.current_time() + FULL_S

    def note_failure(self, exc: OSError) -> None:
        """A write failed: leave the tier alone for a while."""
        if self.is_resting:
            return  # another of the same batch
        self._rests_until = trio.current_time() + self._backoff_s
        log.error("%s: writeback failed, next try in %.1f s: %s", self.name, self._backoff_s, exc)
        self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
