"""Where contents may be found a second time: an index of hints, and whether it is worth it.

A page whose contents are stored already gets the slot word of the page that has them: one
object, several pages (``refcounts.py`` counts them).  Here is only what finds the other page.
Everything found is compared, all 4096 bytes, by ``compressed_cache.py``, so the index is never
wrong whatever it holds: it is not changed when a page is overwritten or freed, it outlives the
worker as it is, and a flipped bit in it costs a miss.

A bucket is 64 bytes, eight entries.  One that comes in takes a free place, or any other's:
copies come in the order of what they are copies of, and dropping the oldest would always drop
the one that is looked for next.

    | tag | page | tag | page | ...      4 bytes each; tag: 32 bits of xxh3 of the page

    bucket = tag & mask, and if that is less than the split pointer: tag & (2 * mask + 1)

The table grows to three entries a page stored, a few buckets at a time (linear hashing, Litwin
1980), so that no store waits for a rehash.  It is bounded by its region, and takes memory
only as it grows; a feeder (``memory_reserve.py``) makes that ahead, and while it has none the table
stays as large as it is, and forgets.  Buckets that are not split yet are twice as full as the
others, which is why three: with two, 9 % of the pages were not found again.

    ON         every page is looked up: 1.2 us
    SAMPLING   one page of 61, chosen by two bytes in its middle, in an index as much smaller
    OFF        none

`auto` goes from ON to SAMPLING after a window of lookups with hits for less than 3 % of it, and
back as soon as there are as many in a window of samples.  docs/policies.md says why.

What was stored while not every page was looked up, or by a former worker, may not be in the
index.  Once ON pays, or was asked for, a sweep tells it, and merges what is there twice
(``merger.py``).  While a sweep is under way no window ends ON, since the hits that it will bring
are not there yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import partial

from fuseswap.errors import InvalidArgument
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.region import Region
from fuseswap.units import PAGE_SIZE

PERCENT = 3  # of a window: 24 bytes of index a page, and 1.2 us a store, are worth it
WINDOW = 1 << 16  # lookups, 256 MiB: a process is swapped out before its copies can be found
SAMPLED_WINDOW = 128  # 8000 stores, more where many pages are zero in their middle
MOST_SAMPLED = 1 << 13
SAMPLE_DIVISOR = 61
SAMPLE_REST = 7

_BUCKET_BYTES = 64
_AHEAD_BYTES = 64 << 10  # made at once by a feeder: for 2700 pages
_ENTRY_BYTES = 8
_ENTRIES = _BUCKET_BYTES // _ENTRY_BYTES
_PAGE_BUCKETS = PAGE_SIZE // _BUCKET_BYTES
_number = int.from_bytes
_TICK = 128  # lookups between two looks at hits and size
_SAMPLED_TICK = 8  # of samples: nothing, beside the 60 stores between two of them
_SPLITS = 54  # buckets at one such look: 432 entries for 128 pages, 80 us


class Mode(IntEnum):
    """Which pages are looked up."""

    OFF = 0
    ON = 1
    SAMPLING = 2


class ContentIndex:
    """The table in ``region``."""

    def __init__(self, region: Region, feeder: Feeder | None = None) -> None:
        """Take over what a former worker left: whole pages from the start of the region."""
        self._region = region
        self._feeder: Feeder = feeder or AtOnce()
        self._map = region.map
        self._most = region.size_bytes // _BUCKET_BYTES
        first = next(region.extents(), (0, 0))
        self.buckets = 0
        self._mask = 0
        present = first[1] // PAGE_SIZE * _PAGE_BUCKETS if first[0] == 0 else 0
        self._set_size(min(present, self._most))
        self._present_bytes = self.allocated_bytes
        self._ordering = False
        self._punch_from(self.buckets)

    @property
    def ready_bytes(self) -> int:
        """Memory that is there for more buckets."""
        return self._present_bytes - self.allocated_bytes

    @property
    def allocated_bytes(self) -> int:
        """Memory of the region, in bytes."""
        return -(-self.buckets // _PAGE_BUCKETS) * PAGE_SIZE

    def exchange(self, page: int, digest: bytes) -> int:
        """Enter ``page``; returns the page that had this digest (8 bytes) last, or -1."""
        if not self.buckets:  # no memory for it
            return -1
        tag = digest[:4]
        number = _number(tag, "little")
        bucket = number & self._mask
        if bucket < self.buckets - self._mask - 1:
            bucket = number & (2 * self._mask + 1)
        at = bucket * _BUCKET_BYTES
        entries = self._map[at : at + _BUCKET_BYTES]
        found = entries.find(tag)
        while found > 0 and found & 7:
            found = entries.find(tag, found + 1)
        if found < 0:
            used = -(-len(entries.rstrip(b"\0")) // _ENTRY_BYTES)
            place = used if used < _ENTRIES else digest[4] & _ENTRIES - 1
            at += place * _ENTRY_BYTES
            self._map[at : at + _ENTRY_BYTES] = tag + page.to_bytes(4, "little")
            return -1
        at += found
        self._map[at + 4 : at + 8] = page.to_bytes(4, "little")
        return _number(entries[found + 4 : found + 8], "little")

    @property
    def entries(self) -> int:
        """How many it has room for."""
        return self.buckets * _ENTRIES

    def grow(self, entries: int, most: int) -> None:
        """Split up to ``most`` buckets towards room for ``entries``, as far as there is memory."""
        wanted = min(-(-entries // _ENTRIES), self._most)
        for _ in range(most):
            if self.buckets >= wanted and self.buckets:
                break
            if self.buckets * _BUCKET_BYTES == self._present_bytes and not self._populate():
                break
            if not self.buckets:
                self._set_size(_PAGE_BUCKETS)  # empty, so nothing has to be split
            else:
                self._split()

    def shrink(self, entries: int) -> None:
        """Give back most of what is more than room for ``entries``; that half is forgotten."""
        wanted = -(-entries // _ENTRIES)
        size = self._mask + 1 if self.buckets else 0
        if not entries:
            size = 0
        while size > _PAGE_BUCKETS and size > 2 * wanted:
            size //= 2
        if size < self.buckets and self.buckets > 4 * wanted:
            self._set_size(size)
            self._punch_from(size)

    def _split(self) -> None:
        """One more bucket: what belongs there of the one it is split from."""
        half = self._mask + 1
        new = self.buckets
        at = (new - half) * _BUCKET_BYTES
        entries = memoryview(self._map[at : at + _BUCKET_BYTES]).cast("Q").tolist()
        stay = [entry for entry in entries if entry and not entry & half]
        go = [entry for entry in entries if entry & half]
        self._fill(new, go)
        self._fill(new - half, stay)
        self._set_size(new + 1)

    def _fill(self, bucket: int, entries: list[int]) -> None:
        at = bucket * _BUCKET_BYTES
        data = b"".join(entry.to_bytes(8, "little") for entry in entries)
        self._map[at : at + _BUCKET_BYTES] = data.ljust(_BUCKET_BYTES, b"\0")

    def _set_size(self, buckets: int) -> None:
        self.buckets = buckets
        self._mask = (1 << max(0, buckets.bit_length() - 1)) - 1

    def _populate(self) -> bool:
        """Have memory for the next buckets; a touch without it would be SIGBUS."""
        self._feeder.collect()
        start = self._present_bytes
        if self.buckets * _BUCKET_BYTES == start and not self._ordering:
            self._ordering = True
            length = min(self._chunk_bytes, self._region.size_bytes - start)
            done = partial(self._made, start, length)
            self._feeder.populate(self._region, start, length, done, can_wait=True)
        return self.buckets * _BUCKET_BYTES < self._present_bytes

    @property
    def _chunk_bytes(self) -> int:
        return _AHEAD_BYTES if self._feeder.deferred else PAGE_SIZE

    def _made(self, start: int, length: int, made: bool) -> None:
        self._ordering = False
        if made and start == self._present_bytes:
            self._present_bytes += length
        else:  # none, or the table has shrunk meanwhile
            self._punch_from(self._present_bytes // _BUCKET_BYTES)

    def _punch_from(self, bucket: int) -> None:
        start = -(-bucket * _BUCKET_BYTES // PAGE_SIZE) * PAGE_SIZE
        self._present_bytes = min(self._present_bytes, start)
        if start < self._region.size_bytes:
            self._region.punch(start, self._region.size_bytes - start)


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
        self.sweep_at = -1  # the page at which the sweep goes on; -1: there is none
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
        if text != self.switch:
            self.switch = text
            self._start()

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

    def candidate(self, page: int, digest: bytes) -> int:
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
            self.sweep_at = 0

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
        self.sweep_at = -1
        self._begin(self.mode, WINDOW)

    def _wanted(self) -> int:
        """Entries there should be."""
        objects = sum(self._objects)
        return 3 * (objects // SAMPLE_DIVISOR if self.mode == Mode.SAMPLING else objects)

    def _begin(self, mode: Mode, window: int) -> None:
        self.mode = mode
        if mode != Mode.ON:
            self._knows_all = False
            self.sweep_at = -1
        self._window = window
        self._every = _SAMPLED_TICK if mode == Mode.SAMPLING else _TICK
        self._lookups = 0
        self._hits_before = self.hits
