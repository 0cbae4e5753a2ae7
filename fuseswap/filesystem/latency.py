"""How long requests take: histograms of loads and stores, by where they were answered.

A request is measured from before it is read until its answer has been written, or stands with
those that are written together.  What it waited with the kernel before is not known here.  But
while more than one waits, other tasks get a turn between two stretches; `turns` has how long.

    load   memory       answered at once: from memory, or a hole
           tier:NAME    read from there, from the first look to the answer
           file         read from its place (layout in-place)
           later        another backend answered later
    store  memory       answered at once
           waited       for room, for a page elsewhere, or for a backend
    turn   others       what other tasks had while requests waited

The two in memory come by the hundred thousand a second.  The transport adds to a column for them:
lists of `QUICK` numbers, one for each 512 ns.  That takes 0.1 us.  `fold` brings the columns into
the histograms, once a second and before these are read.  A worker that dies takes a second's
worth with it, at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Final

from fuseswap.counting import gauge
from fuseswap.errors import Deferred
from fuseswap.store.latency_histogram import FIRST_TIER_PLACE, LatencyHistogram
from fuseswap.store.superblock import SharedState
from fuseswap.tiers.tier_reader import TierLoad

_TIERS_AHEAD: Final = 24  # 64 KiB in all: a tier that comes later asks for no memory
QUICK_SHIFT: Final = 9
QUICK: Final = 2048  # up to 1 ms; what is longer is added by itself
_PLACES: Final = range(QUICK)
_LABELS = ("request", "place")


@dataclass(slots=True)
class LatencyStatistics:
    """Of requests of one kind that were answered in one place."""

    request: str
    place: str
    latency_p50_us: int = gauge(
        "microseconds", "Half of such requests took at most so long.", labels=_LABELS
    )
    latency_p99_us: int = gauge("microseconds", "The same, 99 of 100.", labels=_LABELS)
    latency_p999_us: int = gauge("microseconds", "The same, 999 of 1000.", labels=_LABELS)
    latency_max_us: int = gauge("microseconds", "The longest of them took so long.", labels=_LABELS)


class Latency:
    """The histograms of one device, as long as it is up."""

    def __init__(self, state: SharedState, *, in_place: bool) -> None:
        self._state = state
        self._in_place = in_place
        state.populate_latency(FIRST_TIER_PLACE + _TIERS_AHEAD)
        self._load = self._fixed(0, "load", "memory")
        self._store = self._fixed(1, "store", "memory")
        self._file = self._fixed(2, "load", "file")
        self._later = self._fixed(3, "load", "later")
        self.waited = self._fixed(4, "store", "waited")
        self.turns = self._fixed(5, "turn", "others")
        self._tiers: dict[int, tuple[str, LatencyHistogram]] = {}  # by number
        self.loads = [0] * QUICK
        self.stores = [0] * QUICK
        self.uncounted = [0] * QUICK  # of other requests: nothing reads it

    def _fixed(self, place: int, request: str, where: str) -> LatencyHistogram:
        return self._state.latency(place, f"{request} {where}")

    def know_tier(self, number: int, name: str) -> None:
        """Loads from tier ``number`` have a histogram of their own."""
        if self._tiers.get(number, ("", None))[0] != name:
            kept = self._state.latency(FIRST_TIER_PLACE + number, f"load tier:{name}")
            self._tiers[number] = (name, kept)

    def know_no_tier_but(self, numbers: set[int]) -> None:
        """Others were removed."""
        self._tiers = {number: one for number, one in self._tiers.items() if number in numbers}

    def add_load(self, duration_ns: int) -> None:
        """A load that was answered at once took so long."""
        self._load.add(duration_ns)

    def add_store(self, duration_ns: int) -> None:
        """A store that was answered at once took so long."""
        self._store.add(duration_ns)

    def add_long(self, column: list[int], duration_ns: int) -> None:
        """One that is too long for ``column``."""
        if column is self.loads:
            self._load.add(duration_ns)
        elif column is self.stores:
            self._store.add(duration_ns)

    def of_load(self, tried: Deferred | None) -> LatencyHistogram:
        """Where a load counts that ``tried`` answers later."""
        if not isinstance(tried, TierLoad):
            return self._later
        if self._in_place:
            return self._file
        _, found = self._tiers.get(tried.location.tier, ("", self._later))
        return found

    def fold(self) -> None:
        """Bring what the transport has added into the histograms."""
        for column, histogram in ((self.loads, self._load), (self.stores, self._store)):
            for at in compress(_PLACES, column):
                histogram.add((at << QUICK_SHIFT) + (1 << QUICK_SHIFT - 1), column[at])
                column[at] = 0

    def histograms(self) -> Iterator[tuple[str, str, LatencyHistogram]]:
        """Request, place and histogram of each that has something."""
        self.fold()
        found = [
            ("load", "memory", self._load),
            ("load", "file", self._file),
            ("load", "later", self._later),
            *(("load", f"tier:{name}", one) for name, one in self._tiers.values()),
            ("store", "memory", self._store),
            ("store", "waited", self.waited),
            ("turn", "others", self.turns),
        ]
        return (one for one in found if one[2].longest_ns)

    def statistics(self) -> Iterator[LatencyStatistics]:
        """A snapshot of each."""
        for request, place, one in self.histograms():
            p50, p99, p999 = one.below(0.5, 0.99, 0.999)
            yield LatencyStatistics(
                request=request,
                place=place,
                latency_p50_us=-(-p50 // 1000),
                latency_p99_us=-(-p99 // 1000),
                latency_p999_us=-(-p999 // 1000),
                latency_max_us=-(-one.longest_ns // 1000),
            )
