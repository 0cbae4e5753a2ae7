"""Where contents may be found a second time: an index of hints, and whether it is worth it.

A page whose contents are stored already gets the slot word of the page that has them: one
object, several pages (``refcounts.py`` counts them).  Here is only what finds the other page.
``compressed_cache.py`` compares all 4096 bytes of a page found, so the index does no harm whatever
it holds.  It is not changed when a page is overwritten or freed.  It outlives the worker as it is.
A flipped bit in it costs a miss.

A bucket is 64 bytes, eight entries.  A new entry takes a free place, or that of any other.  Copies
come in the order of their originals: to drop the oldest entry would drop the one looked for next.

    | tag | page | tag | page | ...      4 bytes each; tag: 32 bits of xxh3 of the page

    bucket = tag & mask, and if that is less than the split pointer: tag & (2 * mask + 1)

The table grows to three entries a page stored (linear hashing, Litwin 1980).  It grows a few
buckets at a time, so that no store waits for a rehash.  Its region bounds it, and it takes memory
only as it grows.  A feeder (``memory_reserve.py``) makes that ahead; while there is none, the table
keeps its size and forgets.  Buckets that are not split yet are twice as full as the others.  So
there are three entries a page: with two, 9 % of the pages were not found again.

    ON         every page is looked up: 1.2 us
    SAMPLING   one page of 61, chosen by two bytes in its middle, in an index as much smaller
    OFF        none

`auto` goes from ON to SAMPLING after a window of lookups with hits for less than 3 % of it.  It
goes back as soon as a window of samples has as many.  docs/policies.md says why.

Pages stored while not every page was looked up, or by a former worker, may not be in the index.
Once ON pays, or was asked for, a sweep adds them, and merges duplicates (``merger.py``).  While a
sweep is under way no window ends ON, since the hits that it will bring are not there yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from fuseswap.dedup.content_index import _SPLITS, ContentIndex
from fuseswap.errors import InvalidArgument, Isolated
from fuseswap.store.memory_reserve import Feeder
from fuseswap.store.region import Region
from fuseswap.units import FIRST_PAGE, NO_PAGE, PageNumber

PERCENT = 3  # of a window: 24 bytes of index a page, and 1.2 us a store, are worth it
WINDOW = 1 << 16  # lookups, 256 MiB: a process is swapped out before its copies can be found
SAMPLED_WINDOW = 128  # 8000 stores, more where many pages are zero in their middle
MOST_SAMPLED = 1 << 13
SAMPLE_DIVISOR: Final = 61
SAMPLE_REST: Final = 7

_TICK = 128  # lookups between two looks at hits and size
_SAMPLED_TICK = 8  # of samples: nothing, beside the 60 stores between two of them


class Mode(IntEnum):
    """Which pages are looked up."""

    OFF = 0
    ON = 1
    SAMPLING = 2


class Dedup:
    """The index, whether it pays, and how far the sweep is.  ``mode`` is hot."""

    def __init__(
        self, region: Region, objects: Sequence[int], feeder: Feeder | None = None
    ) -> None:
        """``objects``: the sum of it is the number of pages the index should have room for."""
        self.index = ContentIndex(region, feeder)
        self._exchange = self.index.exchange
        self._objects = objects
        self.mode = Mode.OFF
        self.hits = 0
        self.switch = "auto"
        self.is_forbidden = False
        self.sweep_at = NO_PAGE  # the page at which the sweep goes on; -1: there is none
        self._ready = False
        self._knows_all = True  # every page stored since the index began, or swept since
        self._samples = SAMPLED_WINDOW  # twice as many each time it did not pay
        self._every = _TICK
        self._lookups = 0
        self._hits_before = 0
        self._window = WINDOW

    def set_switch(self, text: str) -> None:
        """``auto``, ``on`` or ``off``; raises `InvalidArgument`."""
        if text not in ("auto", "on", "off"):
            raise InvalidArgument(f"'{text}' is not one of auto, on, off")
        if self.is_forbidden and text != "off":
            raise Isolated
        if text != self.switch:
            self.switch = text
            self._start()

    def forbid(self) -> None:
        """``off`` for good: how long a store takes tells whether another has that page."""
        self.set_switch("off")
        self.is_forbidden = True

    def get_ready(self) -> None:
        """From now on references are counted, so objects may be shared."""
        self._ready, self._knows_all = True, False
        self._start()

    def _start(self) -> None:
        self._samples = SAMPLED_WINDOW
        if self.switch == "off":
            self._begin(Mode.OFF, WINDOW)
            self.index.shrink(0)
        elif self._ready:
            objects = sum(self._objects)
            self._knows_all |= not objects
            has_size = self.index.entries >= objects  # a former worker had all looked up
            if self.switch == "on" or self.mode == Mode.ON or has_size:
                self._begin(Mode.ON, WINDOW)
            else:
                self._begin(Mode.SAMPLING, self._samples)
            if self.switch == "on":
                self._catch_up()

    def candidate(self, page: PageNumber, digest: bytes) -> PageNumber:
        """Enter ``page``; returns the page that may have the same contents, or -1.

        ``digest``: 8 bytes of xxh3.
        """
        if not self._lookups % self._every:
            self._tick()
        self._lookups += 1
        return self._exchange(page, digest)

    def _tick(self) -> None:
        """Look at hits and size; 100 us at most."""
        if (self.hits - self._hits_before) * 100 >= PERCENT * self._window:
            self._go_on()
        elif self._lookups >= self._window:
            self._give_up()
        self.index.grow(self._wanted(), _SPLITS)

    def _go_on(self) -> None:
        """It pays: have every page looked up from here on, and those that were not."""
        if self.mode == Mode.ON:
            self._samples = SAMPLED_WINDOW
        self._catch_up()
        self._begin(Mode.ON, WINDOW)

    def _catch_up(self) -> None:
        """Have what the index was not told of swept."""
        if not self._knows_all and self.sweep_at < 0:
            self.sweep_at = FIRST_PAGE

    def _give_up(self) -> None:
        """It does not pay: go on with samples.

        The index of all pages stays for a window of them: copies may come just then.
        """
        if self.mode == Mode.SAMPLING:
            self.index.shrink(self._wanted())
            self._begin(Mode.SAMPLING, self._samples)
        elif self.switch == "auto" and self.sweep_at < 0:
            self._samples = min(2 * self._samples, MOST_SAMPLED)
            self._begin(Mode.SAMPLING, self._samples)
        else:
            self._begin(Mode.ON, WINDOW)

    def trim(self) -> None:
        """Give memory back where fewer pages are stored than once were."""
        if self.mode != Mode.SAMPLING:
            self.index.shrink(self._wanted())

    def make_room(self, buckets: int) -> None:
        """Let the index grow by up to ``buckets`` for what a sweep finds."""
        self.index.grow(self._wanted(), buckets)

    def finish_sweep(self) -> None:
        """All that is stored was looked at: from here on hits say whether it pays."""
        self._knows_all = True
        self.sweep_at = NO_PAGE
        self._begin(self.mode, WINDOW)

    def _wanted(self) -> int:
        """Entries there should be."""
        objects = sum(self._objects)
        return 3 * (objects // SAMPLE_DIVISOR if self.mode == Mode.SAMPLING else objects)

    def _begin(self, mode: Mode, window: int) -> None:
        self.mode = mode
        if mode != Mode.ON:
            self._knows_all = False
            self.sweep_at = NO_PAGE
        self._window = window
        self._every = _SAMPLED_TICK if mode == Mode.SAMPLING else _TICK
        self._lookups = 0
        self._hits_before = self.hits
