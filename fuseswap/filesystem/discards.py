"""Discards that take more than one step, and the writes that wait for them.

A discard of a whole swap area takes a second.  So it is a `Punch`, and others have their turn
after each of its steps.  One at a time takes steps, in the order of arrival.  One with an edge on a
tier takes its place in the line when the tier has answered, and holds no other up until then.

    begin -> the first step: all is done, or -> `go_on`: a step, others, a step ... -> answered

A write that comes later than a discard of its pages is newer, and must not be dropped.  A later
step could do that, and so could the next worker, which begins anew.  So such a write is held
until the discard is answered.  Until then no page of the discard changes, but by writes that came
before it.  Other writes go on, and so do all reads: they find the page as it was, or zeros.

    write -> held by each discard it meets -> the last of them is answered -> the line of writes

The bytes of a write beyond the discard belong to the discard from then on.  So a newer write of
the same page is held too, behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from fuseswap.errors import Deferred, kept
from fuseswap.filesystem.pending_requests import Waits, Write
from fuseswap.filesystem.punch import Punch
from fuseswap.filesystem.swapfile import Swapfile

MAX_DISCARDS = 128  # of which the transport takes no more requests


class Discard:
    """One under way; ``low`` to before ``high`` are the bytes that newer writes wait for."""

    __slots__ = ("held", "high", "low", "punch", "turn", "wait")

    def __init__(self, offset: int, size: int, punch: Punch) -> None:
        self.low = offset
        self.high = offset + size
        self.punch = punch
        self.wait: Deferred | None = None  # what it must wait for first
        self.turn = trio.Event()  # set where it stood behind others and is the first now
        self.held: list[Write] = []  # bounded as those that stand in line


class Unfinished(Deferred):
    """A discard was begun, and goes on with `Discards.go_on`."""

    def __init__(self, discard: Discard) -> None:
        super().__init__("a discard takes more than one step")
        self.discard = discard


class Discards:
    """``wait_for`` waits as a `Deferred` says; ``let_go`` is given what was held, in order."""

    def __init__(
        self,
        swapfile: Swapfile,
        wait_for: Callable[[Deferred, Waits], Awaitable[None]],
        let_go: Callable[[Write], None],
    ) -> None:
        self._swapfile = swapfile
        self._wait_for = wait_for
        self._let_go = let_go
        self._under_way: list[Discard] = []  # `MAX_DISCARDS` or so
        self._line: deque[Discard] = deque()  # of them, those that wait for their turn alone

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._under_way)

    @property
    def are_many(self) -> bool:
        """Whether no more should be begun."""
        return len(self._under_way) >= MAX_DISCARDS

    # -- writes that come meanwhile ----------------------------------------------------

    def meets(self, offset: int, size: int) -> bool:
        """Whether a write of ``size`` bytes has to wait for one of them."""
        end = offset + size
        return any(one.low < end and offset < one.high for one in self._under_way)

    def hold(self, write: Write) -> bool:
        """Keep ``write`` until all it meets are done; False where it meets none."""
        low, high = write.offset, write.offset + write.size
        for one in self._under_way:
            if one.low < high and low < one.high:
                write.discards += 1
                one.held.append(write)
                one.low, one.high = min(one.low, low), max(one.high, high)
        return write.discards > 0

    # -- discards ----------------------------------------------------------------------

    def begin(self, offset: int, size: int) -> None:
        """As `Swapfile.punch`; raises `Unfinished` where the rest has to wait for its turn."""
        punch = self._swapfile.begin_punch(offset, size)
        wait: Deferred | None = None
        try:
            if not punch.step():
                return
        except Deferred as exc:
            wait = kept(exc)
        discard = Discard(offset, size, punch)
        discard.wait = wait
        self._under_way.append(discard)
        if wait is None:  # now, for trio starts the tasks of one moment in any order
            self._line.append(discard)
        try:
            raise Unfinished(discard)
        finally:
            del wait, discard  # the frame of a traceback would hold them

    async def go_on(self, discard: Discard) -> None:
        """Carry out the rest.  It is to be answered in one piece with the return."""
        try:
            await self._take_steps(discard)
        except Exception:
            self._end(discard)
            raise
        self._end(discard)

    async def _take_steps(self, discard: Discard) -> None:
        if discard.wait is not None:
            if not await self._take_edges(discard):
                return
            self._line.append(discard)
        try:
            if self._line[0] is not discard:
                await discard.turn.wait()
            while discard.punch.step():
                await trio.lowlevel.checkpoint()
        finally:
            self._line.remove(discard)
            if self._line:
                self._line[0].turn.set()

    async def _take_edges(self, discard: Discard) -> bool:
        """The first step, once what it waits for is there; False: that was all."""
        waits = Waits()
        while discard.wait is not None:
            wait, discard.wait = discard.wait, None
            await self._wait_for(wait, waits)
            del wait
            try:
                more = discard.punch.step()
            except Deferred as exc:
                discard.wait = kept(exc)
        return more

    def _end(self, discard: Discard) -> None:
        """Newer writes of its pages may go on, once they wait for no other."""
        self._under_way.remove(discard)
        for write in discard.held:
            write.discards -= 1
            if not write.discards:
                self._let_go(write)
