"""Recompression in tests: until it is done, with a dictionary that suits `pages.related`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.reclaim.recompression import Recompression
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_log import SegmentLog
from tests.support import pages

DICTIONARY = b"".join(pages.PHRASES)
_STUCK_AFTER = 50  # looks


def at_once(job: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """A `Submit` without a thread; nobody else ever wants the processor."""
    found = job()
    done((0.0, 0.0) if isinstance(found, tuple) else found)


class HeldJobs:
    """A `Submit` whose jobs wait until a test says so."""

    def __init__(self) -> None:
        self.held: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.count = 0
        self.holds = True

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.count += 1
        if self.holds:
            self.held.append((job, done))
        else:
            at_once(job, done)

    def run(self) -> None:
        """Do the one that waits."""
        at_once(*self.held.pop())

    def let_go(self) -> None:
        """Do it, and all that come."""
        self.holds = False
        self.run()


async def recompress(recompression: Recompression, wanted: str = "all") -> None:
    """Have the task do what is ``wanted``, as far as it goes; needs a `MockClock`."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(ReclaimRequest.parse(wanted))
        await finish(recompression)
        nursery.cancel_scope.cancel()


async def pass_time(seconds: float) -> None:
    """Move the `MockClock` on, a bit at a time; all tasks are blocked then."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    for _ in range(int(seconds * 4)):
        await wait_all_tasks_blocked()
        clock.jump(0.25)
    await wait_all_tasks_blocked()


def make_old(log: SegmentLog, seconds: int = 100) -> None:
    """Seal what is open, and have all that is sealed be so since ``seconds`` ago."""
    for head in log.heads:
        log.seal(head)
    for segment in log.table.segments():
        log.table.entries[segment * 4 + 3] -= seconds


async def finish(recompression: Recompression) -> None:
    """Wait until nothing is left of the demand, or it does not go on."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    demand, looks = recompression.request, 0
    before = -1
    while demand.left and looks < _STUCK_AFTER:
        await wait_all_tasks_blocked()
        clock.jump(0.25)  # the task pauses where others want the processor
        looks = looks + 1 if len(demand.left) == before else 0
        before = len(demand.left)
    await wait_all_tasks_blocked()
