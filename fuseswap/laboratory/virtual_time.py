"""Runs an async function in virtual time, the same to the byte each time.

The clock jumps to the next deadline when every task waits, as trio's `MockClock` does.  That one
asks the time on the wall at each look, three times an event, and gathers statistics for a jump.

trio runs tasks that are ready in a random order.  Its private switch for Hypothesis sorts them
first, and its generator is seeded here.  The clocks of ``linux/clocks.py`` are those of the
simulation meanwhile.  Work takes no time there, unless the simulation says so.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

import trio
import trio.testing

from fuseswap.linux import clocks

T = TypeVar("T")

_BOOTED_S = 1000.0  # nothing was sealed before
_NEVER_S = 999999999
_SCHEDULER: Any = trio._core._run


class JumpingClock:
    """Stands still while any task can run; ``now_s`` begins at 0.

    trio only lets a `MockClock` jump, which has no subclasses: `mocked` is one with our methods.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.mocked = trio.testing.MockClock(autojump_threshold=0)
        vars(self.mocked).update(
            current_time=lambda: self.now_s,
            deadline_to_sleep_time=self._sleep_time,
            _autojump=self._jump,
        )

    def _sleep_time(self, deadline: float) -> float:
        """0 where it has passed, else never: the clock jumps."""
        return 0 if deadline <= self.now_s else _NEVER_S

    def _jump(self) -> None:
        due = _SCHEDULER.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
        if self.now_s < due < inf:
            self.now_s = due


def run(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """What ``main`` returns; raises what it raises."""
    clock = JumpingClock()

    def now_s() -> float:
        return clock.now_s

    before = _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING, _SCHEDULER._r
    _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = True
    _SCHEDULER._r = random.Random(seed)
    clocks.use(clocks.Clocks(lambda: _BOOTED_S + now_s(), now_s, now_s))
    try:
        return trio.run(main, clock=clock.mocked)
    finally:
        clocks.use(clocks.REAL)
        _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING, _SCHEDULER._r = before
