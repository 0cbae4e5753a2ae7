"""Events out of a seed: loads and stores of pages by Zipf's law, scans, and discards.

The same seed gives the same events.  A quarter of the time is a scan, which reads and writes pages
in order.  Contents: 14 % are one word, 10 % are those of another page, 5 % do not compress.  The
rest has 200 to 3800 bytes.  Memory does not depend on how many there are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import xxhash

from fuseswap.codecs.registry import LZ4
from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.trace_format import (
    COMPRESSED,
    HOLE,
    INCOMPRESSIBLE,
    SAME_FILLED,
    Event,
)
from fuseswap.units import PAGE_SIZE

_SKEW = 3.0  # page = count * u ** _SKEW: a fifth of the pages gets 58 % of the events
_SCAN_PAGES = 256
_GAP_NS = 20_000
_SHARED = 64  # different contents among those that several pages have


def synthetic(count: int, page_count: int, seed: int, gap_ns: int = _GAP_NS) -> Iterator[Event]:
    """``count`` events on ``page_count`` pages, ``gap_ns`` apart in the mean."""
    chance = random.Random(seed)
    now_ns, scan_page, scan_left, scan_kind = 0, 0, 0, LOAD
    # Now and then a large process ends: what is on its way to a tier dies there.
    sizes = [1, 8, 64, 512] * 8 + [page_count // 2] * 4 + [page_count]
    spread = page_count * 7919 // 10000 | 1  # so that hot pages are not neighbours
    for number in range(count):
        now_ns += int(chance.expovariate(1 / gap_ns))
        if not scan_left and chance.random() < 0.25 / _SCAN_PAGES:
            scan_left, scan_page = _SCAN_PAGES, chance.randrange(page_count)
            scan_kind = chance.choice((LOAD, STORE))
        if scan_left:
            scan_left -= 1
            page, kind = (scan_page + _SCAN_PAGES - scan_left) % page_count, scan_kind
        else:
            rank = int(page_count * chance.random() ** _SKEW)
            page = rank * spread % page_count
            kind = STORE if chance.random() < 0.5 else LOAD
        if chance.random() < 0.002:
            pages = chance.choice(sizes)
            yield Event(now_ns, DISCARD, page, min(pages, page_count - page), 0, HOLE, 0)
        elif kind == LOAD:
            yield Event(now_ns, LOAD, page, 0, 0, HOLE, 0)
        else:
            yield _store(chance, now_ns, page, number, seed)


def _store(chance: random.Random, now_ns: int, page: int, number: int, seed: int) -> Event:
    drawn = chance.random()
    own = xxhash.xxh3_64_intdigest(b"%d" % number, seed & (1 << 64) - 1)
    if drawn < 0.14:
        fill = 0 if drawn < 0.1 else own & 0xFFFFFFFF
        return Event(now_ns, STORE, page, fill, 8, SAME_FILLED, 0)
    if drawn < 0.24:
        shared = chance.randrange(_SHARED)
        same = xxhash.xxh3_64_intdigest(b"shared %d" % shared, seed & (1 << 64) - 1)
        return Event(now_ns, STORE, page, same, 300 + 40 * shared, COMPRESSED, LZ4)
    if drawn < 0.29:
        return Event(now_ns, STORE, page, own, PAGE_SIZE, INCOMPRESSIBLE, 0)
    return Event(now_ns, STORE, page, own, chance.randrange(200, 3800), COMPRESSED, LZ4)
