"""What a process or a cgroup has in the swap of our devices, and what it takes there.

A page that shares its object with others takes its part of it.  Of an object counts all that it
takes in its segment (``store/object_size.py``), so the sums are comparable with ``status``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, islice

from fuseswap.frontswap.backend import IN_PLACE
from fuseswap.store.object_size import footprint
from fuseswap.store.slot_word import (
    is_foreign,
    is_object,
    length_of,
    number_of,
    object_key,
    segment_of,
)
from fuseswap.store.table_view import TableView
from fuseswap.tiers.tier import BACKING_NAME
from fuseswap.units import PAGE_SIZE, PageNumber

_HEADER_PAGE = 0  # mkswap's
_SAMPLES = 256  # pages of an area that are looked up to recognise it


@dataclass(slots=True)
class SwapUse:
    """Of one process or cgroup.

    ``elsewhere``: pages that have a place in our swap and are not there: zswap has them, or the
    swap cache.  ``plain_pages``: kept uncompressed, in another backend than the compressed cache.
    ``by_tier``: bytes, by name.  ``ages``: how many pages were sealed so many seconds ago.
    """

    pages: int = 0
    elsewhere: int = 0
    same_filled: int = 0
    plain_pages: int = 0
    duplicates: int = 0
    memory_bytes: float = 0.0
    by_tier: dict[str, float] = field(default_factory=dict)
    ages: Counter[int] = field(default_factory=Counter)

    @property
    def swap_bytes(self) -> int:
        """Uncompressed."""
        return self.pages * PAGE_SIZE

    @property
    def tier_bytes(self) -> int:
        """On all tiers together."""
        return round(sum(self.by_tier.values()))

    @property
    def taken_bytes(self) -> int:
        """In memory, on tiers, and uncompressed elsewhere."""
        return round(self.memory_bytes) + self.tier_bytes + self.plain_pages * PAGE_SIZE

    @property
    def age_seconds(self) -> int | None:
        """The median of pages with an object; None without any."""
        left = self.ages.total() / 2
        for age in sorted(self.ages):
            left -= self.ages[age]
            if left <= 0:
                return age
        return None

    def note_on_tier(self, name: str, taken: float) -> None:
        """``taken`` bytes more are on the tier ``name``."""
        self.by_tier[name] = self.by_tier.get(name, 0.0) + taken

    def add(self, other: SwapUse) -> None:
        """Count ``other`` in."""
        self.pages += other.pages
        self.elsewhere += other.elsewhere
        self.same_filled += other.same_filled
        self.plain_pages += other.plain_pages
        self.duplicates += other.duplicates
        self.memory_bytes += other.memory_bytes
        for name, taken in other.by_tier.items():
            self.note_on_tier(name, taken)
        self.ages.update(other.ages)


class DeviceUse:
    """Looks pages of one device up."""

    def __init__(self, view: TableView) -> None:
        self._view = view
        self._now = int(time.clock_gettime(time.CLOCK_BOOTTIME))

    @cached_property
    def _sharers(self) -> Counter[int]:
        return self._view.sharers()

    def of(self, pages: Iterable[int], mappers: Mapping[int, int]) -> SwapUse:
        """What a process has in ``pages``, which so many ``mappers`` have, each its part."""
        use = SwapUse()
        for page in pages:
            self._count(use, self._view.word(PageNumber(page)), mappers[page])
        return use

    def unseen(self, seen: Iterable[int]) -> int:
        """How many stored pages are not among those ``seen``, nor the header of the swap area."""
        known = {_HEADER_PAGE, *seen}
        stored = sum(self._view.word(PageNumber(page)) != 0 for page in known)
        return max(0, self._view.stored_pages() - stored)

    def _count(self, use: SwapUse, word: int, mappers: int) -> None:
        use.pages += 1
        if not word:
            use.elsewhere += 1
        elif is_object(word):
            self._count_object(use, word, mappers)
        elif is_foreign(word) and number_of(word) == IN_PLACE:
            use.note_on_tier(BACKING_NAME, PAGE_SIZE / mappers)
        elif is_foreign(word):
            use.plain_pages += 1
        else:
            use.same_filled += 1

    def _count_object(self, use: SwapUse, word: int, mappers: int) -> None:
        segment = self._view.segment(segment_of(word))
        if segment is None:  # it has moved since its word was read
            use.memory_bytes += footprint(length_of(word)) / mappers
            return
        sharers = self._sharers[object_key(word)] if segment.shared else 1
        taken = footprint(length_of(word)) / (max(1, sharers) * mappers)
        use.duplicates += sharers > 1
        if segment.tier is None:
            use.memory_bytes += taken
        else:
            name = self._view.tier_names.get(segment.tier, f"number {segment.tier}")
            use.note_on_tier(name, taken)
        sealed_at = segment.sealed_at
        use.ages[0 if sealed_at is None else max(0, self._now - sealed_at)] += 1

    def share_stored(self, pages: Collection[int]) -> float:
        """How many of some of ``pages`` are stored here, as a share: 1 for those of this device."""
        some = list(islice(pages, 0, None, max(1, len(pages) // _SAMPLES)))
        return sum(self._view.word(PageNumber(page)) != 0 for page in some) / len(some)


def types_of(
    areas: list[str], found: Mapping[int, Collection[int]], ours: Mapping[str, DeviceUse]
) -> dict[str, int]:
    """Which type the kernel gave to each area in which pages were found.

    /proc/swaps has ``areas`` in the order of their types, and does not say the types: there are
    gaps where another was switched off.  So among all pairs in order those are taken that find most
    pages in ``ours``, which are some of the areas.
    """
    kinds = sorted(found)

    def fit(chosen: tuple[str, ...]) -> float:
        pairs = zip(chosen, kinds, strict=True)
        return sum(
            ours[area].share_stored(found[kind]) - 0.5 for area, kind in pairs if area in ours
        )

    choices = list(combinations(areas, min(len(kinds), len(areas))))
    kinds = kinds[: len(areas)]
    best = max(choices, key=fit)
    return dict(zip(best, kinds, strict=True))
