"""The thread of recompression in virtual time: a batch takes so long for each of its pages.

The work is done at once, and its end is told later.  Without that a simulation recompresses all
that is due between two requests, twice as much as a worker did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from fuseswap.reclaim.background_thread import BackgroundThread


class SimulatedThread:
    """See `Submit`; ``page_s``: of one page, in seconds.  `run` is a task of its own."""

    def __init__(self, page_s: float) -> None:
        self._page_s = page_s
        self._thread: BackgroundThread | None = None
        self._ends, self._jobs = trio.open_memory_channel[tuple[float, Callable[[], None]]](1)

    def serve(self, thread: BackgroundThread) -> None:
        """Know of it how many pages a job has."""
        self._thread = thread

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do ``job`` now, and call ``done`` when it would have ended."""
        pages = self._thread.in_hand if self._thread is not None else 0
        result = job()
        if pages and self._page_s:
            due = trio.current_time() + pages * self._page_s
            self._ends.send_nowait((due, partial(done, result)))
        else:
            done(result)

    async def run(self) -> None:
        """Tell the ends, in their time."""
        async for due, end in self._jobs:
            await trio.sleep_until(due)
            end()
