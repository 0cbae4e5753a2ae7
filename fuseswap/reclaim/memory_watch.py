"""The serving thread's side of the feeder: takes over what was made, and lets others live.

One trio task.  It wakes when the feeder has finished something.  It takes that over, has the
reserve refilled and wakes the stores that wait for it.  A few times a second, while memory is
short, it looks whether the machine stands still because of us:

    memory is short, requests wait in the loop device, and none has reached us for a while

Then loop's own thread waits in the page allocator for the request it wants to send us
(`fuse_request_alloc`), behind all others.  It needs a page or two.  Writing to swap cannot free
them, since each such write needs loop's thread.  So ready frames are given back, one at a time,
until requests come again; then the reserve is filled again.

Nothing here takes memory: the files that are read were opened, and read once, by the feeder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import trio

from fuseswap.counting import counter, gauge
from fuseswap.errors import RETRY, Retry
from fuseswap.linux import syscalls
from fuseswap.store.memory_reserve import Feeder, FeederThread
from fuseswap.store.store import Store
from fuseswap.units import SEGMENT_BYTES

_LOOK_S = 0.05  # while memory is short
_IDLE_S = 1.0
_STALLED_S = 0.15  # without a request: reclaim is not that slow
_GIFT_EVERY_S = 0.05  # a MiB: reclaim takes its time to look again
_KEPT_FRAMES = 2
_DEATH_BYTES = 8 << 20  # of swap, free between two looks
_RETRY_S = 0.05  # a store looks again, woken or not


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """One moment of the reserve, and what came of it so far."""

    reserve_bytes: int = gauge(
        "bytes",
        "Free segments whose memory is there, so that no store waits for the system's.",
        after="mem_standby",
    )
    reserve_given_back: int = counter(
        "Segments of the reserve returned, since the machine stood still for want of memory.",
        after="reserve_refused",
    )
    memory_stalls: int = counter(
        "Times the loop device had requests, and none came, while memory was short."
    )
    serving_faults: int = counter(
        "Page faults of the thread that serves: what it needs is resident, so there are none."
    )


class MemoryWatch:
    """Of one device; ``requests`` counts all that was answered so far.

    ``holds_some``: whether a request waits here, for a tier or for room: then the queue is ours.
    ``queue_file``: /sys/block/loopN/inflight, -1 until it is found.  ``count_faults``: of the
    serving thread.
    """

    def __init__(
        self,
        feeder: Feeder,
        cache: Store,
        requests: Callable[[], int],
        holds_some: Callable[[], bool] = lambda: False,
        queue_file: Callable[[], int] = lambda: -1,
        count_faults: Callable[[], int] = lambda: 0,
    ) -> None:
        self._feeder = feeder
        self._cache = cache
        self._frames = cache.log.frames
        self._requests = requests
        self._holds_some = holds_some
        self._waiters = trio.lowlevel.ParkingLot()
        self._queue_file = queue_file
        self.count_faults = count_faults
        self._last_requests = 0
        self._progress_at = 0.0
        self._gift_at = 0.0
        self._stalled = self._hurries = False
        self._least_free_swap = syscalls.free_swap_bytes()
        self.stalls = 0

    def begin_wait(self, answer: Callable[[Retry], None]) -> None:
        """Answer `RETRY` once there is more memory, or a moment later."""
        trio.lowlevel.spawn_system_task(self._wait, answer)

    async def _wait(self, answer: Callable[[Retry], None]) -> None:
        with trio.move_on_after(_RETRY_S):
            await self._waiters.park()
        answer(RETRY)

    def is_reserved(self) -> bool:
        """Whether enough of the reserve is there to begin; orders what it lacks."""
        self._feeder.collect()
        self._cache.keep_ready()
        frames = self._frames
        return frames.warm >= min(frames.ready // 2, frames.allowed)

    async def run(self) -> None:
        """Take over finished orders, until cancelled; with `AtOnce` there are none."""
        if not isinstance(self._feeder, FeederThread):
            await trio.sleep_forever()
        feeder = self._feeder
        feeder.ready_level = lambda: self._frames.warm
        feeder.kept_level = lambda: self._frames.kept_ready
        while True:
            with trio.move_on_after(_LOOK_S if _is_short(feeder) else _IDLE_S):
                await trio.lowlevel.wait_readable(feeder.eventfd)
                os.eventfd_read(feeder.eventfd)
            feeder.collect()
            self._hurry(_is_short(feeder))
            self._look(feeder)
            if not self._stalled:
                self._cache.keep_ready()
            if not self._frames.is_short:
                self._waiters.unpark_all()

    def _hurry(self, short: bool) -> None:
        """Real-time priority for this thread while memory is short.

        A page that it may still touch for the first time, and what io_submit takes, comes from
        what the kernel has kept for such threads.  Where it would wait for that, all would: in a
        guest it did, with 2 MiB free.
        """
        if short or self._hurries:
            syscalls.set_real_time(short)
            self._hurries = short

    def _look(self, feeder: FeederThread) -> None:
        """Give a frame back where nothing else moves."""
        self._help_after_a_death(feeder)
        now, requests = trio.current_time(), self._requests()
        lacks = self._frames.is_short and not feeder.is_poor
        moves = requests != self._last_requests or not _is_short(feeder) or lacks
        if moves or self._holds_some() or not self._requests_wait():
            self._last_requests = requests
            self._progress_at = now
            self._stalled = False
        elif now - self._progress_at > _STALLED_S and now - self._gift_at > _GIFT_EVERY_S:
            self.stalls += not self._stalled
            self._stalled = True
            self._gift_at = now
            self._frames.give_to_others(_KEPT_FRAMES)

    def _help_after_a_death(self, feeder: FeederThread) -> None:
        """Give all back where much swap became free at once, while others have little.

        A process has ended, by the OOM killer perhaps.  Its pages go with the discards, which
        loop's thread has to send first.  Others need memory at once, or they are taken too.  The
        feeder may wait for memory just then, so this thread looks.
        """
        free = syscalls.free_swap_bytes()
        if feeder.is_poor and free - self._least_free_swap > _DEATH_BYTES:
            while self._frames.give_to_others(_KEPT_FRAMES):
                pass
            self._least_free_swap = free
        self._least_free_swap = min(free, self._least_free_swap)

    def _requests_wait(self) -> bool:
        """Whether the loop device has requests that it has not sent us, or we not answered."""
        queue_file = self._queue_file()
        if queue_file < 0:
            return False
        try:
            return os.pread(queue_file, 64, 0).split() != [b"0", b"0"]
        except OSError:
            return False

    def statistics(self) -> MemoryStatistics:
        """A snapshot."""
        return MemoryStatistics(
            reserve_bytes=self._frames.warm * SEGMENT_BYTES,
            reserve_given_back=self._frames.given_back,
            memory_stalls=self.stalls,
            serving_faults=self.count_faults(),
        )


def _is_short(feeder: FeederThread) -> bool:
    """Whether memory is short, as the feeder saw last or as it shows."""
    return feeder.is_short or feeder.is_stuck
