"""What goes wrong with a tier in a simulation, and when: drawn from a seed.

Times of peace and of trouble take turns.  In each time of trouble some kinds of fault happen, with
a chance of their own:

    fail     a read or a write ends with EIO
    stall    it takes longer, 0.1 s in the mean
    forget   what was written is gone: reads give ENODATA
    lie      a read returns bytes of which one is wrong
"""

from __future__ import annotations

import random
from typing import NamedTuple

_PEACE_S = 0.5
_TROUBLE_S = 0.2
_STALL_S = 0.1
KINDS = ("fail", "stall", "forget", "lie")


class Fault(NamedTuple):
    """Of one read or write; ``lie``: where in it a byte is wrong, 0 to 1."""

    fails: bool = False
    stall_s: float = 0.0
    forgets: bool = False
    lie: float | None = None


NO_FAULT = Fault()


class FaultSchedule:
    """Of one tier.  ``kinds``: which faults there are; without a seed there are none."""

    def __init__(self, seed: int | None, name: str = "", kinds: tuple[str, ...] = KINDS) -> None:
        self._chance = random.Random(f"{seed} {name}")
        self._kinds = kinds if seed is not None else ()
        self._until_s = self._chance.expovariate(1 / _PEACE_S)
        self._now: dict[str, float] = {}

    def draw(self, now_s: float) -> Fault:
        """For a read or a write that begins now; time goes on from call to call."""
        while self._kinds and now_s >= self._until_s:
            self._turn()
        if not self._now:
            return NO_FAULT
        hit = {kind for kind in self._kinds if self._chance.random() < self._now.get(kind, 0)}
        if not hit:
            return NO_FAULT
        return Fault(
            "fail" in hit,
            self._chance.expovariate(1 / _STALL_S) if "stall" in hit else 0.0,
            "forget" in hit,
            self._chance.random() if "lie" in hit else None,
        )

    def _turn(self) -> None:
        """From peace to trouble, or back."""
        if self._now:
            self._now = {}
            self._until_s += self._chance.expovariate(1 / _PEACE_S)
            return
        some = self._chance.sample(self._kinds, self._chance.randint(1, len(self._kinds)))
        self._now = {kind: self._chance.choice((0.05, 0.3, 1.0)) for kind in some}
        if "forget" in self._now:
            self._now["forget"] *= 0.1  # else nothing is left to be tried
        self._until_s += self._chance.expovariate(1 / _TROUBLE_S)
