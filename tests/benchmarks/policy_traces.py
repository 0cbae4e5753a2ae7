"""Six traces out of a seed: what a swap is asked for by programs that do not fit in memory.

A workload touches pages of its own.  `Memory` keeps the latest ones, as the kernel does: it stores
what it has no room for, unless that was not written since it was loaded.  So the device sees what
is left of the locality.

    programs   eight, of which one is used at a time
    build      compilers come and go, with fresh pages that die soon
    database   Zipf's law over a large cache, a third of it writes, and checkpoints
    browser    tabs, the latest used most; a fifth of the pages hardly compress
    scan       pages in order, again and again, beside a small hot part
    fork       children of one program: a tenth of their pages becomes their own
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator

import xxhash

from fuseswap.codecs.registry import LZ4
from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.trace_format import COMPRESSED, HOLE, INCOMPRESSIBLE, SAME_FILLED, Event
from fuseswap.units import PAGE_SIZE

MEMORY_PAGES = 2048
_TOUCH_NS = 200_000
_BATCH = 32  # pages the kernel stores at once

Workload = Callable[[random.Random], Iterator[tuple[int, int]]]
TOUCHED, WRITTEN = 0, 1  # else: so many pages from there are given back


class Memory:
    """The latest `MEMORY_PAGES`; what it asks the swap for is in `events`."""

    def __init__(self, seed: int, poor_share: float, shared: int) -> None:
        self._chance = random.Random(seed)
        self._seed = seed
        self._poor_share = poor_share
        self._shared = shared  # pages whose first contents are those of page % shared
        self._here: OrderedDict[int, bool] = OrderedDict()  # True: not as it is in swap
        self._swapped: set[int] = set()
        self._versions: dict[int, int] = {}
        self._now_ns = 0
        self.events: list[Event] = []  # taken and cleared by `trace`

    def touch(self, page: int, written: bool) -> None:
        """A program reads or writes ``page``."""
        self._now_ns += int(self._chance.expovariate(1 / _TOUCH_NS))
        if page in self._here:
            self._here.move_to_end(page)
            self._here[page] |= written
        else:
            if page in self._swapped:
                self.events.append(Event(self._now_ns, LOAD, page, 0, 0, HOLE, 0))
            self._here[page] = written or page not in self._swapped
        if written:
            self._versions[page] = self._versions.get(page, 0) + 1
        if len(self._here) >= MEMORY_PAGES + _BATCH:
            for _ in range(_BATCH):
                self._leave(*self._here.popitem(last=False))

    def _leave(self, page: int, changed: bool) -> None:
        if changed:
            self.events.append(self._store(page))
            self._swapped.add(page)

    def discard(self, first: int, count: int) -> None:
        """Programs need them no more."""
        for page in range(first, first + count):
            self._here.pop(page, None)
            self._swapped.discard(page)
            self._versions.pop(page, None)
        self.events.append(Event(self._now_ns, DISCARD, first, count, 0, HOLE, 0))

    def _store(self, page: int) -> Event:
        version = self._versions.get(page, 0)
        of = page % self._shared if self._shared and version <= 1 else page
        number = xxhash.xxh3_64_intdigest(b"%d %d" % (of, version), self._seed)
        drawn = random.Random(xxhash.xxh3_64_intdigest(b"%d" % of, self._seed))
        kind = drawn.random()
        if kind < 0.1:
            return Event(self._now_ns, STORE, page, 0, 8, SAME_FILLED, 0)
        if kind < 0.1 + self._poor_share:
            return Event(self._now_ns, STORE, page, number, PAGE_SIZE, INCOMPRESSIBLE, 0)
        size = min(3900, int(drawn.lognormvariate(7.1, 0.6)))  # a median of 1212 bytes
        return Event(self._now_ns, STORE, page, number, size, COMPRESSED, LZ4)


def _zipf(chance: random.Random, pages: int, skew: float = 3.0) -> int:
    return int(pages * chance.random() ** skew)


def _programs(chance: random.Random) -> Iterator[tuple[int, int]]:
    size, now = 2500, 0
    while True:
        now = now if chance.random() < 0.5 else chance.randrange(8)
        for _ in range(chance.randrange(2000, 8000)):
            yield now * size + _zipf(chance, size), int(chance.random() < 0.3)


def _build(chance: random.Random) -> Iterator[tuple[int, int]]:
    """Three compilers at a time; each has its place, and 300 pages are make's."""
    places = [300 + 4000 * slot for slot in range(4)]
    grown, target = [0] * 4, [chance.randrange(800, 4000) for _ in range(4)]
    while True:
        slot = chance.randrange(4)
        for _ in range(40):
            grown[slot] += 1
            yield places[slot] + grown[slot] - 1, WRITTEN
            yield places[slot] + _zipf(chance, grown[slot], 2.0), int(chance.random() < 0.2)
            if chance.random() < 0.1:
                yield chance.randrange(300), TOUCHED
            if grown[slot] >= target[slot]:
                yield places[slot], grown[slot] + 1
                grown[slot], target[slot] = 0, chance.randrange(800, 4000)


def _database(chance: random.Random) -> Iterator[tuple[int, int]]:
    pages, spread, touched = 20_000, 7919, 0
    while True:
        yield _zipf(chance, pages, 4.0) * spread % pages, int(chance.random() < 0.33)
        touched += 1
        if not touched % 60_000:
            yield from ((page, TOUCHED) for page in range(pages))


def _browser(chance: random.Random) -> Iterator[tuple[int, int]]:
    """Twelve tabs, the latest first; now and then the last one is closed."""
    tabs, size = list(range(12)), 1500
    while True:
        place = int(len(tabs) * chance.random() ** 2)
        tabs.insert(0, tabs.pop(place))
        if chance.random() < 0.05:
            yield tabs[-1] * size, size + 1
        for _ in range(chance.randrange(1000, 5000)):
            yield tabs[0] * size + _zipf(chance, size, 2.0), int(chance.random() < 0.25)


def _scan(chance: random.Random) -> Iterator[tuple[int, int]]:
    pages, hot = 12_000, 2000
    while True:
        for page in range(pages):
            yield hot + page, int(chance.random() < 0.1)
            yield _zipf(chance, hot), int(chance.random() < 0.3)


def _fork(chance: random.Random) -> Iterator[tuple[int, int]]:
    """Ten children of 1500 pages; one is asked at a time, and dies after a while."""
    size = 1500
    while True:
        child = chance.randrange(10)
        for _ in range(chance.randrange(500, 2500)):
            page = _zipf(chance, size, 2.0)
            own = page % 10 == 0
            yield child * size + page, int(own and chance.random() < 0.5)
        if chance.random() < 0.1:
            yield child * size, size + 1


# Each: what it touches, how many of its pages do not compress, pages that are alike.
WORKLOADS: dict[str, tuple[Workload, float, int]] = {
    "programs": (_programs, 0.03, 0),
    "build": (_build, 0.02, 0),
    "database": (_database, 0.03, 0),
    "browser": (_browser, 0.2, 0),
    "scan": (_scan, 0.03, 0),
    "fork": (_fork, 0.03, 1500),
}


def trace(name: str, count: int, seed: int) -> Iterator[Event]:
    """At least ``count`` events of the workload ``name``; the same seed gives the same."""
    workload, poor_share, shared = WORKLOADS[name]
    memory, left = Memory(seed, poor_share, shared), count
    for page, what in workload(random.Random(f"{name} {seed}")):
        if what > WRITTEN:
            memory.discard(page, what - 1)
        else:
            memory.touch(page, what == WRITTEN)
        if memory.events:
            yield from memory.events
            left -= len(memory.events)
            memory.events.clear()
            if left <= 0:
                return
