"""Reads of a mirror: from one half, and from the other where that fails, or takes too long.

    ask `which` -> bytes: done
          |---- error ----------------.
          '---- nothing for `_PATIENCE_S` -> ask the other, too -> who has bytes first: done
                                                               '-> both failed, or `tier_timeout`

A half that failed is asked second for `_REST_S`.  So is one that is late with a read.  So what it
does not answer is at most what there was for it in `_PATIENCE_S`.  Nothing takes a read back from
a disk: it is forgotten here, and its answer is not heard.

Where both are late `tier_timeout` ends it, but not while a disk of this machine may still answer.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial

import trio

from fuseswap.tiers.tier import TIER_TIMEOUT_S, Read, Tier

FIRST, SECOND = 0, 1
_PATIENCE_S = 2.0
_REST_S = 5.0
_TICK_S = 0.25
_IDLE_TICKS = 20

Where = tuple[int, int, int, int]  # extent, generation, offset, length


class _Asked:
    """A read; ``pending`` are the halves that have not answered."""

    __slots__ = ("began", "done", "is_copy", "late", "number", "other", "pending", "where")

    def __init__(
        self, number: int, where: Where, other: int | None, done: Read, *, is_copy: bool
    ) -> None:
        self.number = number
        self.where = where
        self.is_copy = is_copy
        self.other = other  # who is to be asked yet
        self.done = done
        self.began = trio.current_time()
        self.pending: tuple[int, ...] = ()
        self.late: tuple[int, ...] = ()  # of those


class MirrorReads:
    """Of ``halves``; ``fails`` says of each whether it is not well for another reason.

    Counts ``second_reads``, that the second half has answered.
    """

    def __init__(self, halves: tuple[Tier, Tier], fails: Sequence[bool]) -> None:
        self._halves = halves
        self._fails = fails
        self.second_reads = 0
        self._timeout_s = TIER_TIMEOUT_S
        self._asked = 0
        # Unanswered, oldest first: who asks bounds them.
        self._unanswered: dict[int, _Asked] = {}
        self._late = [0, 0]
        self._rests_until = [0.0, 0.0]
        self._busy = trio.Event()

    def set_timeout(self, seconds: float) -> None:
        """See `Tier`."""
        self._timeout_s = seconds
        for half in self._halves:
            half.set_timeout(seconds)

    def begin(self, where: Where, done: Read) -> None:
        """From that half which is better off."""
        now = trio.current_time()
        rests = [
            self._late[half] > 0 or now < self._rests_until[half] or self._fails[half]
            for half in (FIRST, SECOND)
        ]
        which = SECOND if rests[FIRST] and not rests[SECOND] else FIRST
        self.begin_from(which, where, done, other=1 - which)

    def begin_from(
        self,
        which: int,
        where: Where,
        done: Read,
        other: int | None = None,
        *,
        is_copy: bool = False,
    ) -> None:
        """From ``which``, and the ``other``, if that has it.

        ``is_copy``: who asks may ask the other half, so `tier_timeout` ends it in any case.
        """
        self._asked += 1
        read = _Asked(self._asked, where, other, done, is_copy=is_copy)
        if not self._unanswered:
            self._busy.set()
        self._unanswered[read.number] = read
        self._ask(read, which)

    def _ask(self, read: _Asked, which: int) -> None:
        read.pending += (which,)
        self._halves[which].begin_read(*read.where, partial(self._ended, read, which))

    def _ended(self, read: _Asked, which: int, found: bytes | OSError) -> None:
        read.pending = tuple(half for half in read.pending if half != which)
        if which in read.late:
            self._late[which] -= 1
        if not isinstance(found, bytes) and not read.is_copy:
            self._rests_until[which] = trio.current_time() + _REST_S
        if read.number not in self._unanswered:
            return
        if isinstance(found, bytes):
            self.second_reads += which == SECOND and not read.is_copy
        elif read.other is not None:
            self._ask_other(read, read.other)
            return
        elif read.pending:
            return
        self._answer(read, found)

    def _ask_other(self, read: _Asked, other: int) -> None:
        read.other = None
        self._ask(read, other)

    def _answer(self, read: _Asked, found: bytes | OSError) -> None:
        del self._unanswered[read.number]
        read.done(found)

    async def run(self) -> None:
        """Look for what is late, while there are reads."""
        while True:
            await self._busy.wait()
            self._busy = trio.Event()
            idle = 0
            while idle < _IDLE_TICKS:
                await trio.sleep(_TICK_S)
                idle = 0 if self._unanswered else idle + 1
                self._look(trio.current_time())

    def _look(self, now: float) -> None:
        patience_s = min(_PATIENCE_S, self._timeout_s / 2)
        for read in list(self._unanswered.values()):
            waited_s = now - read.began
            if waited_s < patience_s:
                break
            if read.other is not None:
                self._note_late(read, now)
                self._ask_other(read, read.other)
            elif waited_s >= self._timeout_s and self._may_end(read):
                self._note_late(read, now)
                self._answer(read, OSError(errno.ETIMEDOUT, "no half of the mirror answers"))

    def _note_late(self, read: _Asked, now: float) -> None:
        for which in read.pending:
            if which not in read.late:
                read.late += (which,)
                self._late[which] += 1
            self._rests_until[which] = now + _REST_S

    def _may_end(self, read: _Asked) -> bool:
        """A disk may answer yet, where it is the last that could."""
        return read.is_copy or all(self._halves[half].is_remote for half in read.pending)
