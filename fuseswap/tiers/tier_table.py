"""The tier table: which tiers there are, by number, and which of their extents are free.

A location is a tier (8 bits) and an extent (24 bits).  It stands in word 0 of a segment's table
entry (``store/segment_entry.py``), so a tier keeps its number for as long as a segment names it:

    register -> the number that its name has, or one that no tier has and no location names
    unregister -> refused while a segment is there, or on its way there

All is derived but names, numbers and policies (``tier_policy.py``), which the header keeps
(``store/superblock.py``).  ``reclaim/destinations.py`` chooses among them.  A worker registers
its tiers, and `adopt` takes the extents over that the segment table names.  Locations
of a tier that is not there keep its number.  Reading them is an `OSError`.
"""

from __future__ import annotations

import errno
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter_ns

from fuseswap.counting import counter, gauge, zeros
from fuseswap.errors import InvalidArgument
from fuseswap.tiers.callbacks import fail_later
from fuseswap.tiers.extent_pool import NO_EXTENT, ExtentPool, check_extents
from fuseswap.tiers.read_times import ReadTimes
from fuseswap.tiers.tier import TIER_TIMEOUT_S, Copies, Read, Tier, Written
from fuseswap.tiers.tier_health import TierHealth
from fuseswap.tiers.tier_policy import LEAST_PRIORITY, TierPolicy
from fuseswap.units import MAX_TIERS, SEGMENT_BYTES, Location

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
    tier_full_writes: int = counter(
        "Writes that the server of each tier refused, since it was full.", labels=("tier",)
    )
    tier_reads: int = counter("Reads that each tier has answered.", labels=("tier",))
    tier_failed_reads: int = counter("Reads that failed, of each tier.", labels=("tier",))
    tier_pages: int = gauge(
        "pages", "Pages on each tier; of a new worker those that it has counted.", labels=("tier",)
    )
    tier_read_p50_us: int = gauge(
        "microseconds", "Half of the last reads of each tier took less.", labels=("tier",)
    )
    tier_read_p99_us: int = gauge(
        "microseconds", "99 of 100 of the last reads of each tier took less.", labels=("tier",)
    )


class TierEntry:
    """One number: its extents, and its tier where that is there."""

    def __init__(self, number: int, policy: TierPolicy) -> None:
        self.number = number
        self.policy = policy
        self.pages = 0  # as far as a former worker's are counted
        self.times = ReadTimes()
        self.tier: Tier | None = None
        self.extents = ExtentPool()
        self.health = TierHealth()
        self.counters = zeros(TierStatistics, tier=str(number))

    def come(self, tier: Tier) -> None:
        """The tier of this number is there."""
        self.tier = tier
        self.health.name = tier.name
        self.health.shares_room = tier.is_remote
        self.extents.extent_count = tier.extent_count
        self.counters.tier = tier.name

    def go(self) -> None:
        """The tier is not there any more: who still has this entry finds no extent."""
        self.tier = None
        self.extents.extent_count = 0
        self.extents.adopt(set())

    @property
    def most_segments(self) -> int:
        """The most segments that may be there: its extents, or its limit."""
        limit = self.policy.limit_bytes
        count = self.extents.extent_count
        return count if limit is None else min(count, limit // SEGMENT_BYTES)

    @property
    def available(self) -> int:
        """How many more segments may go there."""
        if self.tier is None or self.policy.draining:
            return 0
        return max(0, min(self.extents.available, self.most_segments - self.extents.in_use))

    @property
    def state(self) -> str:
        """One word for people."""
        if self.tier is None:
            return "missing"
        if self.policy.draining:
            return "draining"
        if not self.available or self.health.is_full:
            return "full"
        if self.health.is_late:
            return "late"
        return "resting" if self.health.is_resting else "active"

    def take(self) -> Location | None:
        """A free extent, or None."""
        extent = self.extents.take() if self.available else NO_EXTENT
        return None if extent == NO_EXTENT else Location(self.number, extent)

    def statistics(self) -> TierStatistics:
        """A snapshot."""
        return replace(
            self.counters,
            tier_extents=self.extents.extent_count,
            tier_segments=self.extents.in_use,
            tier_pages=self.pages,
            tier_read_p50_us=self.times.below(0.5),
            tier_read_p99_us=self.times.below(0.99),
        )


class TierTable:
    """Up to 256 tiers.  The segment log releases through it, readers read through it."""

    def __init__(
        self,
        names: Mapping[int, str] | None = None,
        keep: Callable[[dict[int, str]], None] = lambda names: None,
    ) -> None:
        """``names`` by number are those of the worker before; ``keep`` keeps them for the next.

        Each with the policy behind it.
        """
        self._entries: dict[int, TierEntry] = {}  # by number, `MAX_TIERS` at most
        self._kept = dict(names or {})
        self._keep = keep
        self._timeout_s = TIER_TIMEOUT_S

    def __iter__(self) -> Iterator[TierEntry]:
        return iter(self._entries.values())

    # -- which there are ---------------------------------------------------------------

    def register(
        self, tier: Tier, policy: TierPolicy | None = None, words: Sequence[str] = ()
    ) -> TierEntry:
        """Give ``tier`` the number its name has, or a new one.

        A new one has ``policy``, or what ``words`` say; one that the header knows has that which
        it had last.  Raises `InvalidArgument` in one line, and changes nothing.
        """
        if not _NAME.fullmatch(tier.name):
            raise InvalidArgument(f"'{tier.name}' is no name of a tier: a-z, 0-9, _ and -, 31 most")
        if any(entry.tier is not None and entry.tier.name == tier.name for entry in self):
            raise InvalidArgument(f"there is a tier '{tier.name}' already")
        check_extents(tier.extent_count, f"tier '{tier.name}'")
        number = self._number_of(tier.name)
        if number is None:
            number = self._free_number()
            policy = policy or TierPolicy(self._next_priority()).changed(list(words))
        else:
            policy = _policy_in(self._kept[number])
        self._keep_one(number, tier.name, policy)
        entry = self._entries.setdefault(number, TierEntry(number, policy))
        entry.policy = policy
        entry.come(tier)
        tier.set_timeout(self._timeout_s)
        entry.health.timeout_s = self._timeout_s
        return entry

    def knows(self, name: str) -> bool:
        """Whether there is, or was, a tier of that name, which anything may lie on."""
        return self._number_of(name) is not None

    def missing(self) -> set[str]:
        """Tiers that a former worker had, and this one has not."""
        return names_in(self._kept) - {entry.tier.name for entry in self if entry.tier}

    def _number_of(self, name: str) -> int | None:
        """The number that the header has for ``name``."""
        return next((n for n, text in self._kept.items() if text.split()[0] == name), None)

    def _free_number(self) -> int:
        for number in range(MAX_TIERS):
            if number not in self._kept and number not in self._entries:
                return number
        raise InvalidArgument(f"there are {MAX_TIERS} tiers already")

    def _next_priority(self) -> int:
        """For a tier that was given none: below all others, as swapon(2) has it."""
        lowest = min((entry.policy.priority for entry in self), default=0)
        return max(LEAST_PRIORITY, min(0, lowest) - 1)

    def _keep_one(self, number: int, name: str, policy: TierPolicy) -> None:
        kept = {**self._kept, number: f"{name} {policy}"}
        if kept != self._kept:
            self._keep(kept)
            self._kept = kept

    def named(self, name: str) -> TierEntry:
        """The tier of ``name``, which is there.  Raises `InvalidArgument`."""
        for entry in self:
            if entry.tier is not None and entry.tier.name == name:
                return entry
        known = ", ".join(entry.tier.name for entry in self if entry.tier) or "none"
        raise InvalidArgument(f"there is no tier '{name}'; there are: {known}")

    def set_policy(self, name: str, words: list[str]) -> None:
        """Change the policy of a tier, also for every later worker; see `TierPolicy.changed`."""
        entry = self.named(name)
        policy = entry.policy.changed(words)
        self._keep_one(entry.number, name, policy)
        entry.policy = policy

    @property
    def timeout_s(self) -> float:
        """How long a read may take: see `Tier.set_timeout`."""
        return self._timeout_s

    def set_timeout(self, seconds: float) -> None:
        """For every tier, also those to come; a write may take as long."""
        self._timeout_s = seconds
        for entry in self:
            entry.health.timeout_s = seconds
            if entry.tier is not None:
                entry.tier.set_timeout(seconds)

    def unregister(self, name: str) -> None:
        """Forget a tier.  Raises `InvalidArgument` where there is none, or a segment is there."""
        number = self._number_of(name)
        if number is None:
            raise InvalidArgument(f"there is no tier '{name}'")
        entry = self._entries.get(number)
        if entry is not None and entry.extents.in_use:
            raise InvalidArgument(
                f"tier '{name}' has {entry.extents.in_use} segments; drain it first"
            )
        copies: object = entry.tier if entry is not None else None
        if isinstance(copies, Copies) and copies.has_late_writes:
            raise InvalidArgument(
                f"tier '{name}': a half has not answered writes that it was given, and may carry "
                "them out yet"
            )
        kept = {n: text for n, text in self._kept.items() if n != number}
        self._keep(kept)
        self._kept = kept
        if entry is not None:
            entry.go()
            del self._entries[number]

    # -- extents -----------------------------------------------------------------------

    def adopt(self, used: Mapping[int, array[int]]) -> None:
        """Take over tiers on which just the extents ``used``, by number, hold segments."""
        for number in used:
            if number not in self._entries:
                self._entries[number] = TierEntry(number, TierPolicy())
        for number, entry in self._entries.items():
            entry.extents.adopt(used.get(number, ()))

    def note_pages(self, tier: int, pages: int) -> None:
        """There are so many ``pages`` more on ``tier``."""
        entry = self._entries.get(tier)
        if entry is not None:  # else the location is corrupt
            entry.pages += pages

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
            fail_later(done, _missing(location))
            return
        ended = partial(_note_write, entry, done)
        entry.tier.begin_write(location.extent, generation, segment, ended)

    def begin_read(
        self, location: Location, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier.begin_read`."""
        entry = self._entries.get(location.tier)
        if entry is None or entry.tier is None:
            fail_later(done, _missing(location))
            return
        entry.counters.tier_read_bytes += length
        ended = partial(_note_read, entry, perf_counter_ns(), done)
        entry.tier.begin_read(location.extent, generation, offset, length, ended)

    def is_readable(self, location: Location) -> bool:
        """Whether others can read what is written to ``location``."""
        entry = self._entries.get(location.tier)
        return entry is not None and entry.tier is not None and entry.tier.is_readable

    def copies_at(self, location: Location) -> Copies | None:
        """The tier of ``location``, where that has each segment twice."""
        entry = self._entries.get(location.tier)
        tier = entry.tier if entry else None
        return tier if isinstance(tier, Copies) else None


def names_in(kept: Mapping[int, str]) -> set[str]:
    """The names of tiers in what the header keeps."""
    return {text.split()[0] for text in kept.values()}


def _note_write(entry: TierEntry, done: Written, error: OSError | None) -> None:
    if error is None:
        entry.counters.tier_written_bytes += SEGMENT_BYTES
    elif entry.health.says_full(error):
        entry.counters.tier_full_writes += 1
    else:
        entry.counters.tier_failed_writes += 1
    done(error)


def _note_read(entry: TierEntry, began_ns: int, done: Read, found: bytes | OSError) -> None:
    if isinstance(found, bytes):
        entry.counters.tier_reads += 1
        entry.times.add(perf_counter_ns() - began_ns)
    else:
        entry.counters.tier_failed_reads += 1
    done(found)


def _policy_in(text: str) -> TierPolicy:
    """The policy behind a name in the header; one of an older fuseswap has none."""
    return TierPolicy().changed(text.split()[1:])


def _missing(location: Location) -> OSError:
    return OSError(errno.ENXIO, f"tier {location.tier} is not there")
