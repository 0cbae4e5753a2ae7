"""What a trace shows: how much, of what, how often again, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.trace_format import (
    CLASS_NAMES,
    COMPRESSED,
    HOLE,
    INCOMPRESSIBLE,
    SAME_FILLED,
    Event,
)
from fuseswap.units import PAGE_SIZE

_SIZE_STEP = 512
_READ_AHEAD_NS = 1_000_000  # neighbours that are read within this were read together


class Contents:
    """Which page has which contents by now; says of a store whether another page has the same."""

    def __init__(self) -> None:
        self._of_page: dict[int, int] = {}
        self._pages: dict[int, int] = {}  # by hash: how many have it

    def store(self, event: Event) -> bool:
        """Whether it is a duplicate."""
        known = self._pages.get(event.number, 0) - (self._of_page.get(event.page) == event.number)
        self.forget(event.page)
        if event.kind_of_contents in (COMPRESSED, INCOMPRESSIBLE):
            self._of_page[event.page] = event.number
            self._pages[event.number] = self._pages.get(event.number, 0) + 1
        return known > 0

    def forget(self, page: int) -> None:
        """It was discarded, or is stored anew."""
        old = self._of_page.pop(page, None)
        if old is not None:
            self._pages[old] -= 1
            if not self._pages[old]:
                del self._pages[old]

    def discard(self, event: Event) -> None:
        """A range of pages."""
        end = event.page + event.number
        if event.number > len(self._of_page):
            for page in [page for page in self._of_page if event.page <= page < end]:
                self.forget(page)
        else:
            for page in range(event.page, end):
                self.forget(page)


@dataclass(slots=True)
class Summary:
    """Numbers of one trace."""

    seconds: float = 0.0
    loads: int = 0
    stores: int = 0
    discards: int = 0
    discarded_pages: int = 0
    duplicates: int = 0
    ahead: int = 0  # loads of the page behind the one before, within a millisecond
    places: dict[str, int] = field(default_factory=dict)  # of loads
    classes: dict[str, int] = field(default_factory=dict)  # of stores
    sizes: list[int] = field(default_factory=lambda: [0] * (PAGE_SIZE // _SIZE_STEP))
    stored_bytes: int = 0
    pages: int = 0
    # By power of two: stores of other pages between the store of a page and its next load.
    distances: list[int] = field(default_factory=lambda: [0] * 33)
    working_set: list[int] = field(default_factory=list)  # pages, of each tenth of the time


def place_name(event: Event) -> str:
    """Where a load was answered from."""
    if event.number and event.kind_of_contents in (COMPRESSED, INCOMPRESSIBLE):
        return f"tier {event.number - 1}"
    if event.kind_of_contents in (COMPRESSED, INCOMPRESSIBLE):
        return "memory"
    return CLASS_NAMES[min(event.kind_of_contents, len(CLASS_NAMES) - 1)]


def summarize(events: Iterable[Event], slots: int = 10) -> Summary:
    """Of ``events``, in order; memory for each page and each slot of the time."""
    found, contents = Summary(), Contents()
    stored_at: dict[int, int] = {}
    touched: list[tuple[int, set[int]]] = []
    before: Event | None = None
    for event in events:
        found.seconds = event.time_ns / 1e9
        second = event.time_ns // 1_000_000_000
        if not touched or touched[-1][0] != second:
            touched.append((second, set()))
        touched[-1][1].add(event.page)
        if event.kind == STORE:
            _count_store(found, event, contents)
            stored_at[event.page] = found.stores
        elif event.kind == LOAD:
            _count_load(found, event, before, stored_at)
            before = event
        elif event.kind == DISCARD:
            found.discards += 1
            found.discarded_pages += event.number
            contents.discard(event)
    found.pages = len({page for _, pages in touched for page in pages})
    found.working_set = list(_working_set(touched, slots))
    return found


def _count_store(found: Summary, event: Event, contents: Contents) -> None:
    found.stores += 1
    found.duplicates += contents.store(event)
    name = CLASS_NAMES[min(event.kind_of_contents, len(CLASS_NAMES) - 1)]
    found.classes[name] = found.classes.get(name, 0) + 1
    if event.kind_of_contents in (COMPRESSED, INCOMPRESSIBLE):
        found.sizes[min((event.size - 1) // _SIZE_STEP, len(found.sizes) - 1)] += 1
        found.stored_bytes += event.size
    elif event.kind_of_contents == SAME_FILLED:
        found.stored_bytes += event.size


def _count_load(
    found: Summary, event: Event, before: Event | None, stored_at: dict[int, int]
) -> None:
    found.loads += 1
    name = place_name(event) if event.kind_of_contents != HOLE else "hole"
    found.places[name] = found.places.get(name, 0) + 1
    if before is not None and event.page == before.page + 1:
        found.ahead += event.time_ns - before.time_ns < _READ_AHEAD_NS
    at = stored_at.get(event.page)
    if at is not None:
        found.distances[min((found.stores - at).bit_length(), len(found.distances) - 1)] += 1


def _working_set(touched: list[tuple[int, set[int]]], slots: int) -> Iterator[int]:
    if not touched:
        return
    width = max(1, -(-(touched[-1][0] + 1) // slots))
    for first in range(0, touched[-1][0] + 1, width):
        pages: set[int] = set()
        for second, some in touched:
            if first <= second < first + width:
                pages |= some
        yield len(pages)
