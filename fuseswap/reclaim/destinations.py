"""Destinations: which tier the next segment goes to.

By priority, as the swap areas of swapon(8): the highest one that takes a segment now, and those of
the same priority in turns.  One that is full, at its limit, emptied, or resting after a write that
failed is passed over.  After its rest it gets one segment, and more when that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fuseswap.tiers.tier_table import TierEntry, TierTable
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES


class Destinations:
    """Of the segments that leave memory, or another tier."""

    def __init__(self, tiers: TierTable) -> None:
        self._tiers = tiers
        self._turns = 0
        self._only: str | None = None

    def __bool__(self) -> bool:
        """Whether there is a tier at all, be it full."""
        return any(entry.tier is not None for entry in self._tiers)

    def _with_room(self, below: int | None = None) -> Iterator[TierEntry]:
        for entry in self._tiers:
            if self._only is not None and (entry.tier is None or entry.tier.name != self._only):
                continue
            if entry.health.is_full:
                continue
            if entry.available and (below is None or entry.policy.priority < below):
                yield entry

    def require(self, name: str) -> None:
        """Raise `InvalidArgument` where there is no tier of that name."""
        self._tiers.named(name)

    @contextmanager
    def only(self, name: str | None) -> Iterator[None]:
        """Meanwhile all that leaves memory goes to the tier of ``name``; None: as always."""
        self._only, before = name, self._only
        try:
            yield
        finally:
            self._only = before

    def choose(self, below: int | None = None) -> TierEntry | None:
        """The tier that the next segment goes to, or None.

        ``below``: of tiers of a lower priority alone.
        """
        ready = [entry for entry in self._with_room(below) if entry.health.takes_one]
        if not ready:
            return None
        highest = max(entry.policy.priority for entry in ready)
        ready = [entry for entry in ready if entry.policy.priority == highest]
        self._turns += 1
        return ready[self._turns % len(ready)]

    def exist(self, below: int | None = None) -> bool:
        """Whether `choose` would find one."""
        return any(entry.health.takes_one for entry in self._with_room(below))

    @property
    def has_room(self) -> bool:
        """Whether there is one that is not full, resting or not."""
        return next(self._with_room(), None) is not None

    @property
    def rests_briefly(self) -> bool:
        """Whether stores should wait for the next try: no tier takes a segment now."""
        return not self.exist() and any(e.health.rests_briefly for e in self._with_room())

    async def rest(self) -> None:
        """Wait until the first of them may be tried again."""
        resting = [entry.health for entry in self._with_room() if entry.health.is_resting]
        until = min((health.rests_until for health in resting), default=0.0)
        await trio.sleep_until(until)

    @property
    def are_remote(self) -> bool:
        """Whether all that have room are on other machines: a store does not wait for long."""
        return all(e.tier is not None and e.tier.is_remote for e in self._with_room())

    @property
    def units_taken(self) -> int:
        """Space that segments take on all tiers, in units of 4096 bytes."""
        taken = sum(entry.extents.in_use for entry in self._tiers)
        return taken * (SEGMENT_BYTES // PAGE_SIZE)
