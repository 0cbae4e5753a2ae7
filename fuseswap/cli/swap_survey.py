"""What is where in a swapfile, by cells of equal size: for the map of ``fuseswap report``.

Reads the tables in shared memory, as `ps` does.  The work is bounded whatever the size: at most
`MOST_CLUSTERS` clusters of 512 words are read.  Where more have memory, some of each cell stand for
all of it.  Nothing is stored behind the last cluster that has memory, so cells end there.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate

from fuseswap.store.geometry import CLUSTER_PAGES
from fuseswap.store.slot_word import (
    is_corrupt,
    is_foreign,
    is_object,
    length_of,
    segment_of,
)
from fuseswap.store.table_view import TableView
from fuseswap.units import PAGE_SIZE, SegmentId

MOST_CELLS = 1024
MOST_CLUSTERS = 2048  # a million pages: 4 GiB of them
SIZE_STEP = 128  # bytes, of the histogram of sizes
SIZE_STEPS = PAGE_SIZE // SIZE_STEP
# Ends of the classes of age in seconds; the last class has none.
AGE_ENDS_S = (60, 600, 3600, 6 * 3600, 24 * 3600)
AGES = len(AGE_ENDS_S) + 1


class State(IntEnum):
    """How a page is kept."""

    COMPRESSED = 0  # in memory
    RAW = 1  # in memory, as it is
    SAME_FILLED = 2
    ON_TIER = 3
    ELSEWHERE = 4  # in place, or in a backend that was added
    NOT_FOUND = 5  # its word is corrupt, or its segment has just moved or is lost


@dataclass(slots=True)
class Cell:
    """``looked``: pages of it that were looked at; the others are counts of these."""

    looked: int = 0
    states: list[int] = field(default_factory=lambda: [0] * len(State))
    ages: list[int] = field(default_factory=lambda: [0] * AGES)

    @property
    def stored(self) -> int:
        """Pages that are stored."""
        return sum(self.states)

    @property
    def main_state(self) -> State | None:
        """Of most of its pages; None where none is stored."""
        return State(self.states.index(max(self.states))) if self.stored else None

    @property
    def age(self) -> int | None:
        """The class of the median; None where no page has an object."""
        seen = list(accumulate(self.ages))
        return bisect_left(seen, seen[-1] / 2) if seen[-1] else None


@dataclass(slots=True)
class Survey:
    """``sizes``: pages by the length of their object, in steps of `SIZE_STEP`, by place.

    ``pages`` of ``page_count`` are in ``cells``; none is stored behind them.
    """

    page_count: int
    pages: int
    cell_pages: int
    is_sample: bool
    cells: list[Cell]
    in_memory: list[int] = field(default_factory=lambda: [0] * SIZE_STEPS)
    on_tiers: list[int] = field(default_factory=lambda: [0] * SIZE_STEPS)

    @property
    def states(self) -> list[int]:
        """Pages in each state, of those that were looked at."""
        return [sum(cell.states[state] for cell in self.cells) for state in State]

    @property
    def ages(self) -> list[int]:
        """Pages in each class of age, of those that were looked at."""
        return [sum(cell.ages[age] for cell in self.cells) for age in range(AGES)]

    @property
    def looked(self) -> int:
        """Pages that were looked at."""
        return sum(cell.looked for cell in self.cells)


def survey(
    view: TableView, page_count: int, *, cells: int = MOST_CELLS, most: int = MOST_CLUSTERS
) -> Survey:
    """Of a device of so many pages, in at most so many cells."""
    pages = min(view.cluster_end() * CLUSTER_PAGES, page_count)
    shift = max(0, (-(-pages // cells) - 1).bit_length()) if pages else 0
    count = -(-pages // (1 << shift))
    found = Survey(page_count, pages, 1 << shift, False, [Cell() for _ in range(count)])
    clusters = view.clusters(most)
    if clusters is None:
        found.is_sample = True
        clusters = list(_some(pages, 1 << shift, most // count))
    surveyor = _Surveyor(view, found)
    for cluster in clusters:
        surveyor.look(cluster)
    if not found.is_sample:
        for number, cell in enumerate(found.cells):
            cell.looked = min(1 << shift, pages - (number << shift))
    return found


def _some(pages: int, cell_pages: int, of_each: int) -> Iterator[int]:
    """``of_each`` clusters of each cell, at equal distances."""
    clusters, of_cell = -(-pages // CLUSTER_PAGES), max(1, cell_pages // CLUSTER_PAGES)
    chosen = max(1, min(of_each, of_cell))
    for first in range(0, clusters, of_cell):
        for number in range(chosen):
            cluster = first + (2 * number + 1) * of_cell // (2 * chosen)
            if cluster < clusters:
                yield cluster


class _Surveyor:
    """Adds clusters to a survey."""

    def __init__(self, view: TableView, found: Survey) -> None:
        self._view = view
        self._found = found
        self._now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        # Of each segment: whether it is on a tier, and its class of age; None: not found.
        self._segments: dict[SegmentId, tuple[bool, int] | None] = {}

    def look(self, cluster: int) -> None:
        """Count the pages of ``cluster`` in their cells."""
        found = self._found
        words = self._view.words(cluster)
        first = cluster * CLUSTER_PAGES
        count = min(CLUSTER_PAGES, found.pages - first)
        step = min(found.cell_pages, CLUSTER_PAGES)
        for at in range(0, max(count, 0), step):
            cell = found.cells[(first + at) // found.cell_pages]
            some = words[at : min(at + step, count)]
            cell.looked += len(some)
            if some.count(0) < len(some):
                for word in some:
                    if word:
                        cell.states[self._state(word, cell)] += 1

    def _state(self, word: int, cell: Cell) -> State:
        if is_corrupt(word):
            return State.NOT_FOUND
        if not is_object(word):
            return State.ELSEWHERE if is_foreign(word) else State.SAME_FILLED
        segment = segment_of(word)
        try:
            where = self._segments[segment]
        except KeyError:
            where = self._segments[segment] = self._look_up(segment)
        if where is None:
            return State.NOT_FOUND
        on_tier, age = where
        length = length_of(word)
        sizes = self._found.on_tiers if on_tier else self._found.in_memory
        sizes[(length - 1) // SIZE_STEP] += 1
        cell.ages[age] += 1
        if on_tier:
            return State.ON_TIER
        return State.RAW if length == PAGE_SIZE else State.COMPRESSED

    def _look_up(self, segment: SegmentId) -> tuple[bool, int] | None:
        found = self._view.segment(segment)
        if found is None:
            return None
        age_s = 0 if found.sealed_at is None else self._now - found.sealed_at
        return found.tier is not None, sum(age_s >= end for end in AGE_ENDS_S)
