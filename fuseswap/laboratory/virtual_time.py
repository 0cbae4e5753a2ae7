"""Runs an async function in virtual time, the same to the byte each time.

trio's `MockClock` jumps to the next deadline when every task waits.  trio runs tasks that are
ready in a random order.  Its private switch for Hypothesis sorts them first, and its generator
is seeded here.  The clocks of ``linux/clocks.py`` are those of the simulation meanwhile.  Work
takes no time there, unless the simulation says so.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing

from fuseswap.linux import clocks

T = TypeVar("T")

_BOOTED_S = 1000.0  # nothing was sealed before
_SCHEDULER: Any = trio._core._run


def run(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """What ``main`` returns; raises what it raises."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    began = clock.current_time()

    def now_s() -> float:
        return clock.current_time() - began

    before = _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING, _SCHEDULER._r
    _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING = True
    _SCHEDULER._r = random.Random(seed)
    clocks.use(clocks.Clocks(lambda: _BOOTED_S + now_s(), now_s, now_s))
    try:
        return trio.run(main, clock=clock)
    finally:
        clocks.use(clocks.REAL)
        _SCHEDULER._ALLOW_DETERMINISTIC_SCHEDULING, _SCHEDULER._r = before
