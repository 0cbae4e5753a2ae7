"""A process that needs more memory than it may have, and checks every page it reads back.

    python -m fuseswap.cli.pressure --size BYTES --seconds S [--seed N] [--touches N]

Fills ``size`` bytes, then touches random pages: verifies the whole page against what
was last written there, and rewrites every second one.  What a page holds follows
from its number, its version and the seed, so it is checked without a copy of it.
About a sixth of the pages are same-filled, as on real machines.  One in fifty is random
bytes.  The rest compress to a half or a third, as anonymous memory does.

Prints one JSON object a line: progress about twice a second (``phase``, ``done``; of touches
also ``touches`` and ``seconds``).  At the end it is ``touches``, ``fill_seconds``, ``seconds``,
``bad_pages``, ``micros_per_touch`` and ``slowest_touch_ms``.  SIGTERM ends the
touching, not the check of all pages behind it.
Used by `fuseswap demo`, the system tests and ``scripts/bench``.
"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import signal
import struct
import sys
import time

from fuseswap.units import PAGE_SIZE

_STAMP = struct.Struct("<QII")  # page number, version, check of both
_BODIES = 251
_REPORT_S = 0.5


def make_body(source: random.Random) -> bytes:
    """One page of what anonymous memory looks like: pointers, small numbers, text, zeros."""
    kind = source.random()
    if kind < 0.14:
        return bytes(PAGE_SIZE)
    if kind < 0.17:
        return source.randbytes(8) * (PAGE_SIZE // 8)
    if kind < 0.19:
        return source.randbytes(PAGE_SIZE)
    out = bytearray()
    while len(out) < PAGE_SIZE:
        piece = source.random()
        if piece < 0.35:
            out += struct.pack("<Q", 0x7F0000000000 + source.randrange(1 << 22) * 16)
        elif piece < 0.6:
            out += struct.pack("<II", source.randrange(64), source.randrange(1000))
        elif piece < 0.75:
            out += source.choice((b"objects/", b"sys.path", b"__name__", b"utf-8\0\0\0"))
        else:
            out += bytes(16)
    return bytes(out[:PAGE_SIZE])


class Memory:
    """Pages whose contents are known."""

    def __init__(self, size_bytes: int, seed: int) -> None:
        self.pages = size_bytes // PAGE_SIZE
        source = random.Random(seed)
        self._bodies = [make_body(source) for _ in range(_BODIES)]
        self._map = mmap.mmap(-1, self.pages * PAGE_SIZE, flags=mmap.MAP_PRIVATE)
        self._versions = bytearray(self.pages)

    def _expected(self, page: int) -> bytes:
        version = self._versions[page]
        body = self._bodies[(page * 31 + version * 17) % _BODIES]
        if body[:8] * (PAGE_SIZE // 8) == body:
            return body  # same-filled stays same-filled
        stamp = _STAMP.pack(page, version, (page * 2654435761 + version) & 0xFFFFFFFF)
        return stamp + body[_STAMP.size :]

    def write(self, page: int) -> None:
        """Give ``page`` its next version."""
        self._versions[page] = (self._versions[page] + 1) & 0xFF
        at = page * PAGE_SIZE
        self._map[at : at + PAGE_SIZE] = self._expected(page)

    def is_good(self, page: int) -> bool:
        """Whether ``page`` holds what was last written to it."""
        at = page * PAGE_SIZE
        return self._map[at : at + PAGE_SIZE] == self._expected(page)


def report(**fields: object) -> None:
    """One line of JSON."""
    print(json.dumps(fields), flush=True)


def run(size_bytes: int, seconds: float, touches: int, seed: int) -> int:
    """Fill, touch, verify all; returns the number of bad pages."""
    memory = Memory(size_bytes, seed)
    began = reported = time.monotonic()
    for page in range(memory.pages):
        memory.write(page)
        if not page & 255 and time.monotonic() - reported > _REPORT_S:
            reported = time.monotonic()
            report(phase="fill", done=page / memory.pages)
    filled = time.monotonic() - began
    source = random.Random(seed + 1)
    bad = count = 0
    slowest_s = 0.0
    asked_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.append(number))
    start = touched = time.monotonic()
    while True:
        page = source.randrange(memory.pages)
        bad += not memory.is_good(page)
        count += 1
        if count & 1:
            memory.write(page)
        before, touched = touched, time.monotonic()
        slowest_s = max(slowest_s, touched - before)
        if not count & 255:
            now = time.monotonic()
            if asked_to_end or now - start > seconds or (touches and count >= touches):
                break
            if now - reported > _REPORT_S:
                reported = now
                done = max((now - start) / seconds, count / touches if touches else 0)
                report(
                    phase="touch",
                    done=done,
                    touches=count,
                    seconds=round(now - start, 3),
                    bad_pages=bad,
                )
    spent = time.monotonic() - start
    for page in range(memory.pages):
        bad += not memory.is_good(page)
        if not page & 255 and time.monotonic() - reported > _REPORT_S:
            reported = time.monotonic()
            report(phase="verify", done=page / memory.pages, bad_pages=bad)
    report(
        phase="end",
        done=1.0,
        pages=memory.pages,
        touches=count,
        fill_seconds=round(filled, 3),
        seconds=round(spent, 3),
        total_seconds=round(time.monotonic() - began, 3),
        slowest_touch_ms=round(slowest_s * 1e3, 1),
        micros_per_touch=round(spent / count * 1e6, 2),
        bad_pages=bad,
    )
    return bad


def main() -> int:
    """Exit code 0 only where every page was good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, required=True, help="bytes")
    parser.add_argument("--seconds", type=float, default=10.0, help="of random touches, at most")
    parser.add_argument("--touches", type=int, default=0, help="stop after so many (0: by time)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return 1 if run(options.size, options.seconds, options.touches, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
