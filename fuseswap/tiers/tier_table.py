"""The tier table: which tiers there are, by number, and which of their extents are free.

A location is a tier (8 bits) and an extent (24 bits).  It stands in word 0 of a segment's table
entry (``store/segment_entry.py``), so a tier keeps its number for as long as a segment names it:

    register -> the number that its name has, or one that no tier has and no location names
    unregister -> refused while a segment is there, or on its way there

All is derived but names and numbers, which the header keeps (``store/superblock.py``).  A worker
registers its tiers, and `adopt` takes the extents over that the segment table names.  Locations
of a tier that is not there keep its number.  Reading them is an `OSError`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import trio

from fuseswap.counting import counter, gauge, zeros
from fuseswap.errors import InvalidArgument
from fuseswap.sizes import format_size
from fuseswap.tiers.extent_pool import NO_EXTENT, ExtentPool
from fuseswap.tiers.tier import Read, Tier, Written
from fuseswap.tiers.tier_health import TierHealth
from fuseswap.units import MAX_EXTENTS, MAX_TIERS, MIB, SEGMENT_BYTES, Location

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")


@dataclass(slots=True)
class TierStatistics:
    """Counts of one tier."""

    tier: str
    tier_extents: int = gauge("extents", "Places of 1 MiB that each tier has.", labels=("tier",))
    tier_segments: int = gauge(
        "segments", "Segments on each tier, and on their way there.", labels=("tier",)
    )
    tier_read_bytes: int = counter("Bytes each tier was asked for.", labels=("tier",))
    tier_written_bytes: int = counter("Bytes of segments written to each tier.", labels=("tier",))
    tier_failed_writes: int = counter(
        "Writes of segments that failed, of each tier.", labels=("tier",)
    )


class TierEntry:
    """One number: its extents, and its tier where that is there."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tier: Tier | None = None
        self.extents = ExtentPool()
        self.health = TierHealth()
        self.counters = zeros(TierStatistics, tier=str(number))

    def come(self, tier: Tier) -> None:
        """The tier of this number is there."""
        self.tier = tier
        self.extents.extent_count = tier.extent_count
        self.counters.tier = tier.name

    def go(self) -> None:
        """The tier is not there any more: who still has this entry finds no extent."""
        self.tier = None
        self.extents.extent_count = 0
        self.extents.adopt(set())

    def take(self) -> Location | None:
        """A free extent, or None."""
        extent = self.extents.take()
        return None if extent == NO_EXTENT else Location(self.number, extent)

    def statistics(self) -> TierStatistics:
        """A snapshot."""
        return replace(
            self.counters,
            tier_extents=self.extents.extent_count,
            tier_segments=self.extents.in_use,
        )


class TierTable:
    """Up to 256 tiers.  The segment log releases through it, readers read through it."""

    def __init__(
        self,
        names: Mapping[int, str] | None = None,
        keep: Callable[[dict[int, str]], None] = lambda names: None,
    ) -> None:
        """``names`` by number are those of the worker before; ``keep`` keeps them for the next."""
        self._entries: dict[int, TierEntry] = {}  # by number, `MAX_TIERS` at most
        self._names = dict(names or {})
        self._keep = keep

    def __iter__(self) -> Iterator[TierEntry]:
        return iter(self._entries.values())

    # -- which there are ---------------------------------------------------------------

    def register(self, tier: Tier) -> TierEntry:
        """Give ``tier`` the number its name has, or a new one.

        Raises `InvalidArgument` in one line, and changes nothing.
        """
        if not _NAME.fullmatch(tier.name):
            raise InvalidArgument(f"'{tier.name}' is no name of a tier: a-z, 0-9, _ and -, 31 most")
        if any(entry.tier is not None and entry.tier.name == tier.name for entry in self):
            raise InvalidArgument(f"there is a tier '{tier.name}' already")
        check_extents(tier.extent_count, f"tier '{tier.name}'")
        number = self._number_for(tier.name)
        names = {**self._names, number: tier.name}
        self._keep(names)
        self._names = names
        entry = self._entries.setdefault(number, TierEntry(number))
        entry.come(tier)
        return entry

    def _number_for(self, name: str) -> int:
        for number, known in self._names.items():
            if known == name:
                return number
        for number in range(MAX_TIERS):
            if number not in self._names and number not in self._entries:
                return number
        raise InvalidArgument(f"there are {MAX_TIERS} tiers already")

    def unregister(self, name: str) -> None:
        """Forget a tier.  Raises `InvalidArgument` where there is none, or a segment is there."""
        number = next((n for n, known in self._names.items() if known == name), None)
        if number is None:
            raise InvalidArgument(f"there is no tier '{name}'")
        entry = self._entries.get(number)
        if entry is not None and entry.extents.in_use:
            raise InvalidArgument(
                f"tier '{name}' has {entry.extents.in_use} segments; drain it first"
            )
        names = {n: known for n, known in self._names.items() if n != number}
        self._keep(names)
        self._names = names
        if entry is not None:
            entry.go()
            del self._entries[number]

    # -- extents -----------------------------------------------------------------------

    def adopt(self, used: Iterable[Location]) -> None:
        """Take over tiers on which just the extents ``used`` hold segments."""
        extents: dict[int, set[int]] = {number: set() for number in self._entries}
        for location in used:
            extents.setdefault(location.tier, set()).add(location.extent)
        for number, taken in extents.items():
            if number not in self._entries:
                self._entries[number] = TierEntry(number)
            self._entries[number].extents.adopt(taken)

    def release(self, location: Location, generation: int) -> None:
        """``location`` holds nothing any more."""
        entry = self._entries[location.tier]
        entry.extents.give_back(location.extent)
        if entry.tier is not None:
            entry.tier.release(location.extent, generation)
        elif not entry.extents.in_use:
            del self._entries[location.tier]

    # -- bytes -------------------------------------------------------------------------

    def begin_write(
        self, location: Location, generation: int, segment: memoryview, done: Written
    ) -> None:
        """See `Tier.begin_write`."""
        entry = self._entries.get(location.tier)
        if entry is None or entry.tier is None:
            _later(done, _missing(location))
            return
        ended = partial(_note_write, entry.counters, done)
        entry.tier.begin_write(location.extent, generation, segment, ended)

    def begin_read(
        self, location: Location, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier.begin_read`."""
        entry = self._entries.get(location.tier)
        if entry is None or entry.tier is None:
            _later(done, _missing(location))
            return
        entry.counters.tier_read_bytes += length
        entry.tier.begin_read(location.extent, generation, offset, length, done)


def check_extents(extent_count: int, what: str) -> None:
    """Raise `InvalidArgument` where ``what`` has more extents than a location can name."""
    if extent_count > MAX_EXTENTS:
        most = format_size(MAX_EXTENTS * MIB)
        raise InvalidArgument(f"{what} is larger than {most}, the most that a tier may have")


def _note_write(counters: TierStatistics, done: Written, error: OSError | None) -> None:
    if error is None:
        counters.tier_written_bytes += SEGMENT_BYTES
    else:
        counters.tier_failed_writes += 1
    done(error)


def _missing(location: Location) -> OSError:
    return OSError(errno.ENXIO, f"tier {location.tier} is not there")


def _later(done: Written | Read, error: OSError) -> None:
    trio.lowlevel.current_trio_token().run_sync_soon(done, error)
