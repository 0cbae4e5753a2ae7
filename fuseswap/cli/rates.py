"""Rates: what counters did between two looks at them.

A counter only grows, until a new worker begins at 0.  So where one went backwards all of
that sample began anew: what each has counted since is its value.  (The number of the
worker's process does not tell: the worker serves a moment before its supervisor notes it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters by name at one moment of the monotonic clock; ``source`` is who counts them."""

    at_s: float
    counters: Mapping[str, float]
    source: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened in ``seconds``; ``anew``: the counters began at 0 in between.

    A counter that one of the two samples does not have has no rate.
    """

    seconds: float
    per_second: Mapping[str, float]
    anew: bool


def rates(before: Sample | None, now: Sample) -> Rates | None:
    """None where there is nothing to compare, or no time between the two."""
    if before is None or now.at_s <= before.at_s:
        return None
    seconds = now.at_s - before.at_s
    common = before.counters.keys() & now.counters.keys()
    anew = before.source != now.source or any(
        now.counters[name] < before.counters[name] for name in common
    )
    return Rates(
        seconds=seconds,
        per_second={
            name: (now.counters[name] - (0 if anew else before.counters[name])) / seconds
            for name in now.counters
            if name in common
        },
        anew=anew,
    )


def format_rate(per_second: float) -> str:
    """So many a second, in at most 6 characters up to 10**14."""
    if per_second < 9.95:
        return f"{per_second:.1f}".removesuffix(".0")
    for suffix in ("", "K", "M", "G"):
        if per_second < 99999.5:
            return f"{per_second:.0f}{suffix}"
        per_second /= 1000
    return f"{per_second:.0f}T"
