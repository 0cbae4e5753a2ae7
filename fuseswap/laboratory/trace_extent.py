"""What a simulation needs to know of a trace before it begins: pages, time, and zstd's gain.

A load has the size and codec that its page has by then.  So pages that were stored with lz4 and
are loaded as zstd's say what recompressing them gains.  Without any the gain is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fuseswap.codecs.registry import LZ4, ZSTD, ZSTD_DICTIONARY
from fuseswap.errors import InvalidArgument
from fuseswap.frontswap.trace_ring import DISCARD, LOAD, MAX_PAGES, STORE
from fuseswap.laboratory.page_column import PageColumn
from fuseswap.laboratory.trace_format import Event
from fuseswap.units import PAGE_SHIFT

MOST_PAGES = 1 << 28  # 1 TiB


class Extent(NamedTuple):
    """``pages``: up to the last one.  ``gain_percent``: what zstd makes of lz4's, 0 to 100."""

    pages: int
    seconds: float
    gain_percent: int = 0


class Gain:
    """Of recompression, by the sizes that pages have when they are stored and loaded."""

    def __init__(self) -> None:
        self._stored = PageColumn(MAX_PAGES, "H").numbers  # by lz4, else 0
        self.pages = 0
        self._before = 0
        self._after = 0

    def note(self, event: Event) -> None:
        """The next event."""
        if event.kind == STORE:
            self._stored[event.page] = event.size if event.codec == LZ4 else 0
        elif event.kind == LOAD and event.codec in (ZSTD, ZSTD_DICTIONARY):
            before = self._stored[event.page]
            if before:
                self.pages += 1
                self._before += before
                self._after += event.size

    @property
    def percent(self) -> int:
        """0 to 100."""
        return max(0, round(100 - 100 * self._after / self._before)) if self._before else 0


def extent_of(events: Iterable[Event]) -> Extent:
    """Raises `InvalidArgument` where there is none, or it is more than 1 TiB."""
    pages, time_ns, gain = 0, 0, Gain()
    for event in events:
        last = event.page + (event.number if event.kind == DISCARD else 1)
        pages, time_ns = max(pages, last), event.time_ns
        gain.note(event)
    if not pages:
        raise InvalidArgument("there is no event")
    if pages > MOST_PAGES:
        raise InvalidArgument(f"a trace of {pages << PAGE_SHIFT} bytes is too large: 1 TiB")
    return Extent(pages, time_ns / 1e9, gain.percent)
