"""The part of a shared pool limit that a stripe's worker has, and how it changes.

    serving thread   `serve`: holds at most `target` frames, says what it holds and wants
    feeder's thread  `look`: under the lock of the table, decides for this stripe alone

The serving thread touches no file, takes no lock and no memory of the kernel: the two exchange
one tuple and one number.  A new target is only decided once the last one holds.  So the grant
falls to the frames that the serving thread has said it holds, and no further.

A worker of a device without stripes has none of that.  One whose table is lost keeps to the even
share that it was started with.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import trio

from fuseswap.daemon.pool_policy import LEAST_FRAMES, is_hungry, next_target
from fuseswap.daemon.pool_table import PoolTable
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.filesystem.device import Device
from fuseswap.units import SEGMENT_SHIFT

log = logging.getLogger(__name__)

_CALM_S = 1.0
_GROWS_S = 0.1  # a worker fills some 10 MiB in that time
_BUSY_S = 0.02  # after a change, and with each look that brings none twice as long


class _Said(NamedTuple):
    """By the serving thread, in frames; ``limit``: the target that it keeps to by now."""

    limit: int
    held: int
    hungry: bool
    oldest: int
    most: int


class PoolShare:
    """Of one worker; without a ``table`` it does nothing."""

    def __init__(self, table: PoolTable | None, stripe: int) -> None:
        self._table = table
        self._stripe = stripe
        self._said: _Said | None = None  # None: this worker does not serve
        self._target = 0

    @classmethod
    def of(cls, runtime: Runtime) -> PoolShare:
        """That of a device which may be a stripe; opens the table."""
        table = PoolTable.of_stripe(runtime.name)
        if table is None and runtime.set_name:
            log.error("the pool's table is lost: this stripe keeps to what it began with")
        return cls(table, runtime.stripe)

    def is_active(self) -> bool:
        """Whether this worker serves a stripe: then no command sets its limit."""
        return self._said is not None

    def most_frames(self) -> int:
        """What it may ever hold, as far as is known; 0 where it shares nothing."""
        return self._table.limit if self._table else 0

    def parameters(self) -> dict[str, str]:
        """With which the worker that attaches begins: it may not hold more than is granted."""
        if self._table is None:
            return {}
        row = self._table.row(self._stripe)  # a feeder that ends may still raise its target
        self._target = min(row.target, row.granted)
        return {"pool_limit_bytes": str(max(self._target, LEAST_FRAMES) << SEGMENT_SHIFT)}

    # -- the serving thread --------------------------------------------------------------

    async def serve(self, device: Device, ask: Callable[[], None]) -> None:
        """Keep to the target, until cancelled; ``ask`` has the feeder `look` at once."""
        if self._table is None:
            await trio.sleep_forever()
        try:
            pause_s, held = _CALM_S, 0
            while True:
                before = device.cache.pool_limit_bytes
                busy = self.keep_to_target(device)
                moved = device.cache.pool_limit_bytes != before
                pause_s = _BUSY_S if moved else min(2 * pause_s, _CALM_S)
                grows = held < (held := device.cache.log.frames.held)
                if busy:
                    ask()
                await trio.sleep(pause_s if busy else _GROWS_S if grows else _CALM_S)
        finally:
            self._said = None

    def keep_to_target(self, device: Device) -> bool:
        """Set the limit, then say what is held; whether there is something to decide soon."""
        assert self._table
        log_, target = device.cache.log, self._target
        frames = log_.frames
        if frames.limit != min(target, frames.frame_count):
            device.cache.pool_limit_bytes = target << SEGMENT_SHIFT
        hungry = target < frames.frame_count and is_hungry(
            self._table.limit, self._table.count, target, frames.held
        )
        oldest = 0
        if device.evictor.has_backing_file:
            segment, age_s = log_.eviction_queue.oldest()
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            oldest = max(1, int(now - age_s)) if segment else 0
        self._said = _Said(target, frames.held, hungry, oldest, frames.frame_count)
        return hungry or frames.held > target

    # -- the feeder's thread ---------------------------------------------------------------

    def look(self) -> None:
        """Say what the others look at, and decide what this stripe is to hold at most."""
        table, said = self._table, self._said
        if table is None or said is None or not table.try_lock():
            return
        try:
            self._decide(table, said)
        finally:
            table.unlock()

    def _decide(self, table: PoolTable, said: _Said) -> None:
        stripe, now = self._stripe, int(time.clock_gettime(time.CLOCK_BOOTTIME))
        table.tell(stripe, said.held, int(said.hungry), said.oldest, now)
        if said.limit != self._target:
            return  # it holds once the serving thread has seen it
        row = table.row(stripe)
        if row.granted > max(said.limit, said.held):
            table.grant(stripe, max(said.limit, said.held))
        rows = table.rows()
        target = next_target(table.limit, rows, stripe, said.most)
        granted = rows[stripe].granted
        if target > granted:
            table.grant(stripe, target)
        elif said.held > said.limit:  # what is to leave has not left yet
            target = min(target, said.limit)
        if target != row.target:
            table.aim(stripe, target)
        self._target = target
