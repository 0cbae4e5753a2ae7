"""Recompression in tests: until it is done, with a dictionary that suits `pages.related`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.demand import Demand
from fuseswap.recompression import Recompression
from tests import pages

DICTIONARY = b"".join(pages.PHRASES)
_STUCK_AFTER = 50  # looks


def at_once(job: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """A `Submit` without a thread; nobody else ever wants the processor."""
    found = job()
    done((0.0, 0.0) if isinstance(found, tuple) else found)


async def recompress(recompression: Recompression, wanted: str = "all") -> None:
    """Have the task do what is ``wanted``, as far as it goes; needs a `MockClock`."""
    recompression._submit = at_once
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recompression.run)
        recompression.ask(Demand.parse(wanted))
        await finish(recompression)
        nursery.cancel_scope.cancel()


async def finish(recompression: Recompression) -> None:
    """Wait until nothing is left of the demand, or it does not go on."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    demand, looks = recompression.demand, 0
    before = -1
    while demand.left and looks < _STUCK_AFTER:
        await wait_all_tasks_blocked()
        clock.jump(0.25)  # the task pauses where others want the processor
        looks = looks + 1 if len(demand.left) == before else 0
        before = len(demand.left)
    await wait_all_tasks_blocked()
