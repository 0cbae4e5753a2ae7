"""Traces of other programs become ours: block traces of MSR Cambridge and SNIA, and blkparse.

    msr       Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime   (100 ns, bytes)
    snia      Timestamp,Response,IOType,LUN,Offset,Size                     (seconds, bytes)
    blktrace  DEV CPU SEQ TIME PID ACTION RWBS SECTOR + COUNT               (seconds, 512 bytes)

A write is a store, a read a load, a discard (D in RWBS) a discard.  Of blktrace only what is queued
(Q) counts.  These have no contents.  So each store has a hash of its own.  Its size comes from a
seed and the page: that a page compresses as it did before is more like memory than chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

import xxhash

from fuseswap.codecs.registry import LZ4
from fuseswap.frontswap.trace_ring import (
    DISCARD,
    KIND_SHIFT,
    LOAD,
    PAGE_MASK,
    STORE,
    TIME_MASK,
    TIME_SHIFT,
)
from fuseswap.laboratory.trace_format import (
    COMPRESSED,
    HOLE,
    MAX_BLOCK_EVENTS,
    Columns,
    TraceWriter,
)
from fuseswap.units import PAGE_SHIFT, PAGE_SIZE

_MOST_PAGES = 1 << 16  # of one request
_SECTOR_SHIFT = 9


class Request(NamedTuple):
    """Of a block device."""

    time_ns: int
    kind: int
    offset: int
    size: int


def _msr(line: str) -> Request | None:
    when, _, _, kind, offset, size = line.split(",")[:6]
    found = {"read": LOAD, "write": STORE}.get(kind.strip().lower())
    return None if found is None else Request(int(when) * 100, found, int(offset), int(size))


def _snia(line: str) -> Request | None:
    when, _, kind, _, offset, size = line.split(",")[:6]
    found = {"r": LOAD, "w": STORE}.get(kind.strip().lower()[:1])
    if found is None:
        return None
    return Request(int(float(when) * 1_000_000_000), found, int(offset), int(size))


def _blktrace(line: str) -> Request | None:
    words = line.split()
    if len(words) < 10 or words[5] != "Q" or words[8] != "+":
        return None
    kind = next((_OF_FLAGS[flag] for flag in words[6] if flag in _OF_FLAGS), None)
    if kind is None:
        return None
    time_ns = int(float(words[3]) * 1_000_000_000)
    return Request(time_ns, kind, int(words[7]) << _SECTOR_SHIFT, int(words[9]) << _SECTOR_SHIFT)


_OF_FLAGS = {"R": LOAD, "W": STORE, "D": DISCARD}
FORMATS: dict[str, Callable[[str], Request | None]] = {
    "msr": _msr, "snia": _snia, "blktrace": _blktrace,
}  # fmt: skip


class _Out:
    """Events become blocks."""

    def __init__(self, writer: TraceWriter, seed: int) -> None:
        self._writer = writer
        self._seed = seed
        self._held = Columns.empty()
        self._start_ns = 0
        self._stores = 0

    def add(self, time_ns: int, kind: int, page: int, number: int = 0) -> None:
        if len(self._held.times) >= MAX_BLOCK_EVENTS or time_ns - self._start_ns > 1 << 40:
            self.flush()  # before the low bits of the time turn over
        if not self._held.times:
            self._start_ns = time_ns
        size = 0
        if kind == STORE:
            self._stores += 1
            number = xxhash.xxh3_64_intdigest(b"%d" % self._stores, self._seed)
            size = size_of(page, self._seed)
        held = self._held
        held.times.append(time_ns >> TIME_SHIFT & TIME_MASK)
        held.pages.append(page | kind << KIND_SHIFT)
        held.numbers.append(number)
        held.sizes.append(size)
        held.classes.append(COMPRESSED if kind == STORE else HOLE)
        held.codecs.append(LZ4 if kind == STORE else 0)

    def flush(self) -> None:
        self._writer.block(self._held, self._start_ns, 0)
        self._held = Columns.empty()


def size_of(page: int, seed: int) -> int:
    """Bytes that ``page`` compresses to: 64 to 4096, half of them below 1400."""
    chance = random.Random(seed << 32 | page)
    return min(PAGE_SIZE, max(64, int(chance.lognormvariate(7.25, 0.7))))


def import_file(lines: Iterable[str], kind: str, writer: TraceWriter, seed: int = 0) -> int:
    """Write what ``lines`` hold; returns how many were left out.

    Pages beyond 4 TiB come round again at 0.  Times that go back stand still.
    """
    parse, out, skipped, before_ns = FORMATS[kind], _Out(writer, seed), 0, 0
    first_ns: int | None = None  # times of MSR begin in 1601
    for line in lines:
        try:
            found = parse(line)
        except (ValueError, OverflowError):
            found = None
        if found is None or found.size <= 0 or found.offset < 0:
            skipped += 1
            continue
        if first_ns is None:
            first_ns = found.time_ns
        before_ns = max(before_ns, min(found.time_ns - first_ns, (1 << 63) - 1))
        first = found.offset >> PAGE_SHIFT
        count = min((found.offset + found.size - 1 >> PAGE_SHIFT) - first + 1, _MOST_PAGES)
        if found.kind == DISCARD:
            out.add(before_ns, DISCARD, first & PAGE_MASK, count)
            continue
        for page in range(first, first + count):
            out.add(before_ns, found.kind, page & PAGE_MASK)
    out.flush()
    writer.end("imported", 0)
    return skipped
