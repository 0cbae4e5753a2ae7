"""A device while it is served: the tasks beside the transport.

The worker's `attach` builds it over one `Device` and its transport, and drops it at a pause.
Another worker may change the state meanwhile, and then all of it is built again.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence

import trio

from fuseswap.daemon.host_watch import HostWatch
from fuseswap.filesystem.device import Device
from fuseswap.linux import syscalls
from fuseswap.tiers.io_engine import Engine
from fuseswap.tiers.tier import Tier
from fuseswap.transport import Transport

_HOUSEKEEPING_S = 1.0
_REAL_TIME_S = 5.0  # at most
_LOOK_S = 0.02
_IDLE_STORES = 100  # fewer in a second: the device is idle, however often it is looked at


class Serving:
    """One device from attaching to unmount or pause."""

    def __init__(
        self,
        device: Device,
        transport: Transport,
        engine: Engine | None,
        watch: HostWatch,
        balance: Callable[[], Awaitable[None]] = trio.sleep_forever,
    ) -> None:
        """``engine``: of all files, where there are any.  ``balance``: `PoolShare.serve`."""
        self.device = device
        self._transport = transport
        self._engine = engine
        self._watch = watch
        self._balance = balance
        self._beats = 0
        self._tasks: trio.Nursery | None = None
        self._scopes: dict[str, trio.CancelScope] = {}  # of tiers that are there, by name

    async def run(self, listen: Callable[[trio.CancelScope], Awaitable[None]]) -> bool:
        """Serve until unmounted (False), or until ``listen`` cancels its scope (True).

        Requests that were waiting are dropped then, unanswered.
        """
        paused = True
        async with trio.open_nursery() as outer:
            # To the end: a write in flight can't be cancelled.
            self._tasks = outer
            if self._engine is not None:
                outer.start_soon(self._engine.run)
            for entry in self.device.tiers:
                if entry.tier is not None:
                    self._start(entry.tier)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.housekeeping)
                nursery.start_soon(self._balance)
                for task in self.device.tasks():
                    nursery.start_soon(task)
                nursery.start_soon(listen, nursery.cancel_scope)
                nursery.start_soon(self._calm_down)
                await self._transport.serve()
                paused = False
                nursery.cancel_scope.cancel()
            outer.cancel_scope.cancel()
        return paused

    def add(self, tier: Tier, engine: Engine | None, policy_words: Sequence[str] = ()) -> None:
        """One more tier; ``engine`` is that of all files.  Raises `InvalidArgument`."""
        self.device.add_tier(tier, policy_words=policy_words)
        if self._engine is None and engine is not None and self._tasks:
            self._engine = self.device.engine = engine
            self._tasks.start_soon(engine.run)
        self._start(tier)

    def lacks(self, name: str) -> bool:
        """Whether there is no tier of that name: it may have been handed out twice."""
        return name not in self._scopes

    def remove(self, name: str) -> None:
        """One tier less, or one that never became one.

        Raises `InvalidArgument` where it holds anything.
        """
        if self.device.tiers.knows(name):
            self.device.remove_tier(name)
        if scope := self._scopes.pop(name, None):
            scope.cancel()

    def _start(self, tier: Tier) -> None:
        self._scopes[tier.name] = scope = trio.CancelScope()
        if self._tasks:
            self._tasks.start_soon(_run_in, scope, tier)

    async def _calm_down(self) -> None:
        """End real-time priority once the frames of the former worker are mapped.

        Until then a load may need a page for a page table, which the kernel has for such threads.
        """
        frames = self.device.cache.log.frames
        try:
            with trio.move_on_after(_REAL_TIME_S):
                while frames.unmapped:
                    await trio.sleep(_LOOK_S)
        finally:
            syscalls.set_real_time(False)

    async def housekeeping(self) -> None:
        """Once a second: say that we live, and note how much memory is used.

        While idle, return frames and collect garbage.
        """
        frames = self.device.cache.log.frames
        before = -1
        self._watch.expect_no_faults()
        while True:
            await trio.sleep(_HOUSEKEEPING_S)
            self._beats += 1
            self.device.state.note_alive(self._beats)
            self.device.cache.memory_usage.note_peak()
            self.device.swapfile.settle()
            self.device.latency.fold()
            stores = self.device.frontswap.statistics().succ_stores
            if stores - before < _IDLE_STORES:
                frames.trim(max(frames.ready, frames.warm // 2))
                self.device.cache.slots.trim()
                self.device.cache.dedup.trim()
                gc.collect(1)
            before = stores


async def _run_in(scope: trio.CancelScope, tier: Tier) -> None:
    with scope:
        await tier.run()
