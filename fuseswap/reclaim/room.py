"""Who waits for room in the pool: stores that found it full, and wake the task of writeback.

Makes no room itself (``room_maker.py``).  `want` says that it is wanted, `next_call` is where
the task sleeps, and `wake` has all waiting stores try again.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from fuseswap.errors import RETRY, Retry
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.store.store import Store

_HOPELESS_S = 0.1


class Room:
    """Stores that wait for room in ``cache``."""

    def __init__(self, cache: Store, counters: WritebackStatistics) -> None:
        self._cache = cache
        self._frames = cache.log.frames
        self._counters = counters
        self._called = trio.Event()
        # Of each request that waits: the first of the line, and discards.
        self._waiters: list[Callable[[Retry], None]] = []
        self._hopeless_until = 0.0
        self._waited_since = 0.0
        self.is_wanted = False

    @property
    def is_awaited(self) -> bool:
        """Whether a store waits."""
        return bool(self._waiters)

    @property
    def exists(self) -> bool:
        """Whether the next store finds room."""
        return not self._frames.exhausted or self._cache.full_pool.has_room

    @property
    def is_hopeless(self) -> bool:
        """Whether the last attempt made no room, 0.1 s ago or less: stores are refused."""
        return trio.current_time() < self._hopeless_until

    def begin_wait(self, answer: Callable[[Retry], None]) -> None:
        """Answer `RETRY` once it is worth trying the store again (it may be refused then)."""
        if not self._waiters:
            self._waited_since = trio.current_time()
        self._waiters.append(answer)
        self.want()

    def want(self) -> None:
        """Have room made: for a store, or because the system's memory is short."""
        self.is_wanted = True
        self.call()

    def call(self) -> None:
        """Have the task look for work at once."""
        self._called.set()

    async def next_call(self, within_s: float) -> bool:
        """Sleep until there may be work, ``within_s`` at most; whether room is wanted."""
        with trio.move_on_after(within_s):
            await self._called.wait()
        wanted, self.is_wanted = self.is_wanted, False
        self._called = trio.Event()
        return wanted

    def wake(self) -> None:
        """All stores that wait try again."""
        waiters, self._waiters = self._waiters, []
        for answer in waiters:
            self._counters.saved_by_writeback += 1
            answer(RETRY)

    def end_waits_of(self, most_s: float) -> None:
        """Those that have waited for longer than this find room now, or are refused."""
        if self._waiters and trio.current_time() - self._waited_since > most_s:
            self.end_attempt()

    def end_attempt(self) -> None:
        """No more can be done now: those that wait find room, or are refused."""
        if not self.exists:
            self._hopeless_until = trio.current_time() + _HOPELESS_S
        self.wake()
