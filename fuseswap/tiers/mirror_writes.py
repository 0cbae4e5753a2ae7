"""Writes to a mirror: to both halves, done when both are; an error only where both fail.

    begin -> both halves, or the one that does not rest
          -> both have it: done
          -> one has it, the other failed: mark, done
    nothing for half of `tier_timeout` from one
          -> the other has it: mark, done
          -> the other rests: it is asked, too

A half that failed rests, longer each time, and then one write tries.  One that is late gets nothing
new before its late writes have ended, which could come after newer ones to the same extents.  What
they leave is in extents whose mark says that the other half alone has them.  Their frames may be
used again, as those of segments that died (``tier.py``).  Each half has a view of its own, which it
may look through for as long as it needs.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial

import trio

from fuseswap.tiers.callbacks import fail_later
from fuseswap.tiers.mirror_reads import FIRST, SECOND
from fuseswap.tiers.tier import TIER_TIMEOUT_S, Tier, Written

log = logging.getLogger(__name__)

BOTH = 0  # a mark; 1 + FIRST and 1 + SECOND are the others
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 10.0
_TICK_S = 0.25


class _Write:
    """A write to both halves, and how it ended in those that have."""

    __slots__ = (
        "began",
        "done",
        "errors",
        "extent",
        "generation",
        "is_done",
        "number",
        "pending",
        "segment",
        "untried",
    )

    def __init__(
        self, number: int, extent: int, generation: int, segment: memoryview, done: Written
    ) -> None:
        self.number = number
        self.extent = extent
        self.generation = generation
        self.segment = segment[:]
        self.pending: tuple[int, ...] = ()
        self.untried: tuple[int, ...] = (FIRST, SECOND)
        self.done = done
        self.is_done = False
        self.began = trio.current_time()
        # Of a half that is left out: it rests.
        self.errors: list[OSError | None] = [_rests(), _rests()]


class MirrorWrites:
    """Of ``halves``, of the mirror ``name``; ``mark`` says who has an extent before `done` does.

    Counts ``one_sided``, that reached one half alone.
    """

    def __init__(
        self, name: str, halves: tuple[Tier, Tier], mark: Callable[[int, int], None]
    ) -> None:
        self._name = name
        self._halves = halves
        self._mark = mark
        self.one_sided = 0
        self.fails = [False, False]  # whether the last write did
        self._timeout_s = TIER_TIMEOUT_S
        self._not_before = [0.0, 0.0]
        self._backoff_s = [_FIRST_BACKOFF_S, _FIRST_BACKOFF_S]
        self._writing = [0, 0]
        self._late = [0, 0]  # of those, done without this half
        self._began = 0
        # Not done, oldest first: who writes bounds them.
        self._waiting: dict[int, _Write] = {}
        self._busy = trio.Event()

    def set_timeout(self, seconds: float) -> None:
        """A half may take half as long for a write that the other has ended."""
        self._timeout_s = seconds

    def is_late(self, which: int) -> bool:
        """Whether a write is under way there that is done without it."""
        return self._late[which] > 0

    def begin(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """To those halves that take it, or where none does, to those that are not late."""
        there = tuple(which for which in (FIRST, SECOND) if not self._late[which])
        takers = tuple(which for which in there if self._takes(which)) or there
        if not takers:
            fail_later(done, OSError(errno.ETIMEDOUT, f"no half of mirror {self._name} answers"))
            return
        self._began += 1
        write = _Write(self._began, extent, generation, segment, done)
        if not self._waiting:
            self._busy.set()
        self._waiting[write.number] = write
        for which in takers:
            self._ask(write, which)

    def _ask(self, write: _Write, which: int) -> None:
        write.pending += (which,)
        write.untried = tuple(half for half in write.untried if half != which)
        write.errors[which] = None
        self._writing[which] += 1
        ended = partial(self._ended, write, which)
        # A view of its own: who waits for `done` gives back the one that was begun with.
        view = write.segment[:]
        self._halves[which].begin_write(write.extent, write.generation, view, ended)

    def _takes(self, which: int) -> bool:
        """Whether this half gets the next segment."""
        if not self.fails[which]:
            return True
        return not self._writing[which] and trio.current_time() >= self._not_before[which]

    def _ended(self, write: _Write, which: int, error: OSError | None) -> None:
        self._writing[which] -= 1
        write.pending = tuple(half for half in write.pending if half != which)
        if write.is_done:  # without this half; the next write shows whether it is well
            self._late[which] -= 1
            return
        write.errors[which] = error
        self._note(which, error)
        if not write.pending:
            self._end(write)

    def _end(self, write: _Write) -> None:
        del self._waiting[write.number]
        write.is_done = True
        first, second = write.errors
        if first is not None and second is not None:
            write.done(first)
            return
        if first is None and second is None:
            self._mark(write.extent, BOTH)
        else:
            self.one_sided += 1
            self._mark(write.extent, 1 + (FIRST if first is None else SECOND))
        write.done(None)

    def _note(self, which: int, error: OSError | None) -> None:
        """It rests, longer each time, or takes all again; logged where that changes."""
        fails = error is not None
        if fails and trio.current_time() >= self._not_before[which]:
            self._not_before[which] = trio.current_time() + self._backoff_s[which]
            self._backoff_s[which] = min(2 * self._backoff_s[which], _LONGEST_BACKOFF_S)
        elif not fails:
            self._backoff_s[which] = _FIRST_BACKOFF_S
        if fails != self.fails[which]:
            self.fails[which] = fails
            what = f"mirror {self._name}: {self._halves[which].name}"
            if fails:
                log.warning("%s does not take segments (%s): the other half has them", what, error)
            else:
                log.warning("%s takes segments again", what)

    async def run(self) -> None:
        """Look for what is late, while there are writes."""
        while True:
            await self._busy.wait()
            self._busy = trio.Event()
            while self._waiting:
                await trio.sleep(_TICK_S)
                self._look(trio.current_time())

    def _look(self, now: float) -> None:
        for write in list(self._waiting.values()):
            if now - write.began < self._timeout_s / 2:
                break
            if len(write.pending) != 1:
                continue
            (late,) = write.pending
            other = 1 - late
            if other in write.untried and not self._late[other]:
                self._ask(write, other)
            elif other not in write.untried and write.errors[other] is None:
                write.errors[late] = error = OSError(errno.ETIMEDOUT, "it does not answer")
                self._late[late] += 1
                self._note(late, error)
                self._end(write)


def _rests() -> OSError:
    return OSError(errno.EAGAIN, "it rests after a write that failed")
