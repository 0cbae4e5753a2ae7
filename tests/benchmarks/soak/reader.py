"""A reader at queue depth 1 that says which of its reads took long.

    python -m tests.benchmarks.soak.reader FILE PAGES

Writes ``PAGES`` pages of what anonymous memory looks like, each with its number in front,
and prints ``filled``.  Then reads random ones and checks the number, until SIGTERM; prints
start (CLOCK_MONOTONIC, seconds) and duration (seconds) of each read of more than 2 ms.  Exit
code 1 where a page was not the one asked for.  A process of its own, since a read that no
worker answers can only be killed.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import time

from fuseswap.cli.pressure import make_body
from fuseswap.units import MIB, PAGE_SIZE

_LONG_S = 0.002
_BODIES = 251
_STAMP_BYTES = 8


def _fill(fd: int, pages: int) -> None:
    source = random.Random(1)
    bodies = [make_body(source)[_STAMP_BYTES:] for _ in range(_BODIES)]
    buffer = mmap.mmap(-1, MIB)  # aligned, for O_DIRECT
    batch = MIB // PAGE_SIZE
    for first in range(0, pages, batch):
        buffer.seek(0)
        for page in range(first, min(first + batch, pages)):
            buffer.write(page.to_bytes(_STAMP_BYTES, "little") + bodies[page % _BODIES])
        with memoryview(buffer)[: buffer.tell()] as view:
            os.pwrite(fd, view, first * PAGE_SIZE)


def _read(fd: int, pages: int) -> int:
    """Until asked to end; the number of wrong pages."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    chance = random.Random(2)
    buffer = mmap.mmap(-1, PAGE_SIZE)
    wrong = 0
    while not asked:
        page = chance.randrange(pages)
        began = time.monotonic()
        count = os.preadv(fd, [buffer], page * PAGE_SIZE)
        spent = time.monotonic() - began
        if spent > _LONG_S:
            print(began, spent, flush=True)
        found = int.from_bytes(buffer[:_STAMP_BYTES], "little")
        wrong += count != PAGE_SIZE or found != page
    return wrong


def main() -> int:
    """Entry point."""
    path, pages = sys.argv[1], int(sys.argv[2])
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    _fill(fd, pages)
    print("filled", flush=True)
    return 1 if _read(fd, pages) else 0


if __name__ == "__main__":
    sys.exit(main())
