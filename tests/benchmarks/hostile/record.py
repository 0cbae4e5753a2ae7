"""What a run beside a hostile user found: outcomes by attempt, work by slice, the verdict.

Parses and adds; runs nothing.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.benchmarks.hostile.attempts import ABSENT, BREACH, DONE
from tests.benchmarks.hostile.user import BUSY, HOSTILE, NAMES

QUIET = "quiet"
KINDS = (QUIET, HOSTILE, BUSY)
_SETTLE_S = 1.0  # at the beginning of a slice, its processes are only just there


class Work(NamedTuple):
    """Of the process under pressure in one slice, by its own clock."""

    kind: str
    touches: int
    seconds: float

    @property
    def rate(self) -> float:
        """Touches a second."""
        return self.touches / self.seconds


def work(kind: str, lines: Sequence[Mapping[str, Any]]) -> Work | None:
    """Between the first of ``lines`` of touches that counts, and the last; None: too few."""
    touching = [line for line in lines if line["phase"] == "touch"]
    if not touching:
        return None
    begin = touching[0]["seconds"] + _SETTLE_S
    counted = [line for line in touching if line["seconds"] >= begin]
    if len(counted) < 2:
        return None
    first, last = counted[0], counted[-1]
    return Work(kind, last["touches"] - first["touches"], last["seconds"] - first["seconds"])


class Tally:
    """How often each attempt was made, and what came back."""

    def __init__(self) -> None:
        self.rounds = 0
        self._found: dict[str, Counter[str]] = {name: Counter() for name in NAMES}

    def add(self, said: Mapping[str, Any]) -> None:
        """All of one hostile process, by the last line it said."""
        self.rounds += said["rounds"]
        for name, outcomes in said["tally"].items():
            self._found[name].update(outcomes)

    def lines(self) -> list[str]:
        """For people: a line for each attempt."""
        return [
            f"  {name:40} {', '.join(f'{count} {what}' for what, count in found.most_common())}"
            for name, found in self._found.items()
        ]

    def faults(self) -> list[str]:
        """Breaches, and attempts that had nothing to be tried on."""
        found = []
        for name, outcomes in self._found.items():
            found += [f"{name}: {what}" for what in outcomes if what.startswith(BREACH)]
            if not set(outcomes) - ABSENT:
                found.append(f"{name}: never tried in earnest ({dict(outcomes)})")
        return found


def cost(works: Iterable[Work], kind: str, than: str = QUIET) -> float | None:
    """Which share of the work of ``than`` is missing in slices of ``kind``; None: no such slice.

    By the sum of each, since a slow slice is as much of the run as a fast one.
    """
    rates = {}
    for each in (kind, than):
        those = [one for one in works if one.kind == each]
        seconds = sum(one.seconds for one in those)
        if not seconds:
            return None
        rates[each] = sum(one.touches for one in those) / seconds
    return 1 - rates[kind] / rates[than]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of one run.  ``end`` is the last line of the process under pressure, or None."""

    works: Sequence[Work]
    tally: Tally
    end: Mapping[str, Any] | None
    restarts: int
    slowest_status_s: Mapping[str, float]  # by the kind of slice
    went_wrong: Sequence[str]  # sentences of what was looked at beside

    @property
    def faults(self) -> list[str]:
        """What must not be, one line each; none: it passed.  Time is not among them."""
        found = [*self.went_wrong, *self.tally.faults()]
        if self.end is None:
            found.append("the process under pressure died")
        elif self.end["bad_pages"]:
            found.append(f"{self.end['bad_pages']} BAD PAGES")
        if self.restarts:
            found.append(f"{self.restarts} restarts of the worker")
        return found

    def lines(self) -> list[str]:
        """For people."""
        end = self.end or {}
        said = [f"attempts, {self.tally.rounds} rounds:", *self.tally.lines()]
        for kind in KINDS:
            rates = [one.rate for one in self.works if one.kind == kind]
            if rates:
                low, middle, high = min(rates), statistics.median(rates), max(rates)
                slowest_s = self.slowest_status_s[kind]
                said.append(
                    f"{kind:9} {len(rates)} slices, touches a second: median {middle:.0f}, "
                    f"{low:.0f} to {high:.0f}; the slowest status {slowest_s:.2f} s"
                )
        for kind, than in ((HOSTILE, QUIET), (BUSY, QUIET), (HOSTILE, BUSY)):
            share = cost(self.works, kind, than)
            if share is not None:
                said.append(f"cost of {kind} beside {than}: {share:.1%}")
        said += [
            f"bad pages {end.get('bad_pages', 'unknown')} of {end.get('touches', 0)} touches "
            f"and {end.get('pages', 0)} pages at the end",
            f"restarts  {self.restarts}",
            *(f"FAULT     {fault}" for fault in self.faults),
        ]
        return said


__all__ = ["BUSY", "DONE", "HOSTILE", "KINDS", "QUIET", "Outcome", "Tally", "Work", "cost", "work"]
