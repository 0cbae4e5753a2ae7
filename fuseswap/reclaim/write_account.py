"""The account of all writes to the backing file: whether one may begin, and how it ended.

Both layouts use it: segments on their way to the tier, and pages on their way to their places.
"""

from __future__ import annotations

from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.tiers.tier_health import TierHealth
from fuseswap.tiers.write_budget import Budget
from fuseswap.units import PAGE_SIZE


class WriteAccount:
    """Tells ``budget``, ``health`` and ``counters`` of each write."""

    def __init__(self, budget: Budget, health: TierHealth, counters: WritebackStatistics) -> None:
        self._budget = budget
        self._health = health
        self._counters = counters

    @property
    def health(self) -> TierHealth:
        """Of where they go."""
        return self._health

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return self._budget.left_bytes is not None

    def affords(self, count: int) -> bool:
        """Whether ``count`` bytes are left of the budget."""
        return self._budget.affords(count)

    def may_begin(self, count: int) -> bool:
        """Whether ``count`` bytes may be written now."""
        waits = self._health.is_resting or self._health.is_late
        return self._budget.affords(count) and not waits

    def may_begin_soon(self, count: int) -> bool:
        """The same, also while the file rests briefly."""
        resting = self._health.is_resting and not self._health.rests_briefly
        return self._budget.affords(count) and not (resting or self._health.is_late)

    def begin(self, count: int) -> None:
        """``count`` bytes are on their way."""
        self._budget.charge(count)
        self._health.begin()

    def give_up(self, count: int) -> None:
        """They were not written: the segment died before."""
        self._budget.charge(-count)
        self._health.end()

    def end(self, count: int, error: OSError | None) -> None:
        """They are written; or not, then they cost nothing, and the file rests or is full."""
        self._health.end()
        if error is None:
            self._counters.bd_writes += count // PAGE_SIZE
            self._health.note_success()
        elif self._health.says_full(error):
            self._budget.charge(-count)
            self._health.note_full(error)
        else:
            self._budget.charge(-count)
            self._counters.writeback_failed += 1
            self._health.note_failure(error)
