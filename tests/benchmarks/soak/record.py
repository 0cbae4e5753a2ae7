"""What a soak found: counters that outlive a worker, its deaths, the kernel's log, the verdict.

Parses text and adds; runs nothing.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseswap.sizes import format_size
from fuseswap.units import MIB

# What is summed up; the other statistics are in the metrics of the device.
COUNTED = (
    "succ_stores", "failed_stores", "failed_requests", "checksum_errors", "tier_read_errors",
    "written_back_pages", "segments_cleaned", "tier_loads", "recompressed_pages",
    "dictionaries_trained",
)  # fmt: skip
POOL = "pool_total_size"
PEAKS = ("duplicate_pages", "zstd_dictionary_pages")

_DEATH = re.compile(r" supervisor: worker \d+ ended with (-?\d+); ")
_STUCK = re.compile(r" supervisor: worker \d+ is stuck: killed$")
_KERNEL_ERROR = re.compile(
    r"I/O error|(?:Read|Write)-error on swap|Bad swap|blocked for more than|Oops|BUG:|soft lockup"
)


class Totals:
    """Counters of a device whose worker, and with it every counter, starts anew.

    What a worker counted between the last look and its death is missing, so all are at least
    what they say.
    """

    def __init__(self) -> None:
        self.peak_pool_bytes = 0
        self.looks = 0
        self.peaks: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._last: dict[str, int] = {}

    def add(self, now: Mapping[str, int]) -> None:
        """One look at the statistics."""
        self.looks += 1
        self.peak_pool_bytes = max(self.peak_pool_bytes, now[POOL])
        for name in PEAKS:
            self.peaks[name] = max(self.peaks[name], now.get(name, 0))
        if any(now[name] < last for name, last in self._last.items()):
            self._before.update(self._last)
        self._last = {name: now[name] for name in COUNTED}

    def __getitem__(self, name: str) -> int:
        return self._before[name] + self._last.get(name, 0)


def deaths_in(log: str) -> Counter[str]:
    """How workers ended, by the supervisor's log: ``SIGKILL``, ``exit 1``, ``stuck``.

    A stuck one was killed, and is counted as that alone.
    """
    found: Counter[str] = Counter()
    stuck = False
    for line in log.splitlines():
        if _STUCK.search(line):
            stuck = True
        elif death := _DEATH.search(line):
            found["stuck" if stuck else _ending(int(death[1]))] += 1
            stuck = False
    return found


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def kernel_errors(log: str, mark: str) -> list[str]:
    """Lines of ``dmesg`` that tell of an error, of those after ``mark`` (all where it is gone)."""
    since = log.rpartition(mark)[2]
    return [line for line in since.splitlines() if _KERNEL_ERROR.search(line)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of one soak.  ``end`` is the process's last line, None where it did not come to it."""

    limit_bytes: int
    restarts: int
    totals: Totals
    sent: Mapping[str, int]
    deaths: Mapping[str, int]
    returncode: int
    end: Mapping[str, Any] | None
    kernel_errors: Sequence[str] = field(default=())

    @property
    def faults(self) -> list[str]:
        """What must not be, one line each; none: the soak passed."""
        found = []
        if self.end is None:
            found.append(f"the process under pressure died ({_ending(self.returncode)})")
        elif self.end["bad_pages"]:
            found.append(f"{self.end['bad_pages']} BAD PAGES")
        if self.totals.peak_pool_bytes > self.limit_bytes:
            found.append(f"the pool had {format_size(self.totals.peak_pool_bytes)}")
        found += [f"kernel: {line}" for line in self.kernel_errors]
        found += [
            f"{name}: {self.totals[name]}"
            for name in ("failed_requests", "checksum_errors")
            if self.totals[name]
        ]
        return found

    def lines(self) -> list[str]:
        """For people."""
        end = self.end or {}
        totals = self.totals
        others = {name: totals[name] for name in COUNTED if name != "failed_stores"}
        return [
            f"signals sent     {_counts(self.sent)}",
            f"workers died     {_counts(self.deaths)}",
            f"restarts         {self.restarts}",
            f"bad pages        {end.get('bad_pages', 'unknown')} "
            f"of {end.get('touches', 0)} touches and {end.get('pages', 0)} pages at the end",
            f"touches          {end.get('micros_per_touch', 'unknown')} us each, "
            f"the slowest {end.get('slowest_touch_ms', 'unknown')} ms",
            f"pool at most     {totals.peak_pool_bytes / MIB:.0f} MiB of "
            f"{self.limit_bytes / MIB:.0f} MiB, {totals.looks} looks",
            f"at most          {_counts(totals.peaks)}",
            f"stores refused   {totals['failed_stores']}",
            f"kernel errors    {len(self.kernel_errors)}",
            f"and              {_counts(others)}",
            *(f"FAULT            {fault}" for fault in self.faults),
        ]


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "none"
