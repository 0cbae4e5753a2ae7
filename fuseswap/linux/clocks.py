"""The clocks by which decisions are made: since boot, of work, and of the processor.

What waits uses trio's.  Here is the rest, in one place, so that a simulation in virtual time has
its own (``laboratory/virtual_time.py``).  What only measures, for a counter, does not ask here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Clocks(NamedTuple):
    """Each in seconds, from some start."""

    boot: Callable[[], float]  # time in suspend counts too
    work: Callable[[], float]
    processor: Callable[[], float]  # of this thread


def _boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


REAL = Clocks(_boot, time.perf_counter, time.thread_time)
_now = [REAL]


def use(clocks: Clocks) -> None:
    """From now on, in this process."""
    _now[0] = clocks


def boot_s() -> float:
    """Seconds since boot, those in suspend among them."""
    return _now[0].boot()


def work_s() -> tuple[float, float]:
    """Seconds of work so far, by the wall and by the processor of this thread."""
    return _now[0].work(), _now[0].processor()
