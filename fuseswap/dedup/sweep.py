"""Merging: a trio task that has duplicates found among what is stored already.

It sleeps until the index of contents is behind and finding duplicates pays (``dedup/policy.py``).
Then it takes the steps of a sweep (``dedup/merger.py``), one after the other while no request
comes.  While they do, it takes a tenth of the thread and no more.  That is by the clock, so a step
that had to wait for the processor is followed by a longer pause.

It does not wait for quiet as recompression does.  It finds copies while they are being stored, and
makes room for those that come.  It ends: a tenth is 10000 pages a second, 25 s for each GiB of
pages.  Cleaning, with 4 % of the thread, has no end.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from fuseswap.dedup.merger import Merger

_LOOK_EVERY_S = 1.0
_QUIET_S = 0.005
BUSY_SHARE = 0.1


class Sweep:
    """Has ``merger`` take its steps.  ``requests``: all that was asked of the device so far."""

    def __init__(self, merger: Merger, requests: Callable[[], int] = lambda: 0) -> None:
        self._requests = requests
        self.merger = merger
        self._seen = 0
        self._quiet_from = 0.0

    async def run(self) -> None:
        """Sweep whenever there is something to sweep."""
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            while self.merger.busy:
                began = trio.current_time()
                self.merger.step()
                await self._give_way(began)

    async def _give_way(self, began: float) -> None:
        """Let others go on; where requests come, for longer than the step took."""
        now, seen = trio.current_time(), self._requests()
        if seen != self._seen:
            self._seen, self._quiet_from = seen, now + _QUIET_S
        if now < self._quiet_from:
            await trio.sleep((now - began) * (1 / BUSY_SHARE - 1))
        else:
            await trio.lowlevel.checkpoint()
