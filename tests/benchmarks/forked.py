"""Processes that were forked from one and then went their own ways: run in a memory cgroup.

    python -m tests.benchmarks.forked DATA COPIES

Fills private memory with DATA (a file of pages) and forks, so that there are COPIES of it.
Each writes the same bytes to every page again, which ends the sharing that fork left, and
other bytes to a tenth of them.  Prints ``ready`` when all have; with a line on stdin all
check every page, and it prints ``{"bad_pages": N}``.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from fuseswap.units import PAGE_SIZE
from tests.benchmarks import corpus_table
from tests.benchmarks.page_sets import diverged

_COUNT = struct.Struct("<Q")  # bad pages of a child


def expected(data: Path, copy: int) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each page of a copy; the same whenever it is asked."""
    for number, page in enumerate(diverged(corpus_table.pages_of(data), random.Random(copy))):
        yield number * PAGE_SIZE, page


def write_again(memory: mmap.mmap, data: Path, copy: int) -> None:
    """Make ``memory`` a copy's own."""
    for at, page in expected(data, copy):
        memory[at : at + PAGE_SIZE] = page


def bad_pages(memory: mmap.mmap, data: Path, copy: int) -> int:
    """Pages that are not what they should be."""
    return sum(memory[at : at + PAGE_SIZE] != page for at, page in expected(data, copy))


def main() -> None:
    """Entry point."""
    data, copies = Path(sys.argv[1]), int(sys.argv[2])
    memory = mmap.mmap(-1, data.stat().st_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for number, page in enumerate(corpus_table.pages_of(data)):
        memory[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] = page
    done_read, done_write = os.pipe()
    go_read, go_write = os.pipe()
    for copy in range(1, copies):
        if os.fork() == 0:
            os.close(go_write)
            write_again(memory, data, copy)
            os.write(done_write, b"d")
            os.read(go_read, 1)  # ends when the parent closes the other end
            os.write(done_write, _COUNT.pack(bad_pages(memory, data, copy)))
            os._exit(0)
    write_again(memory, data, 0)
    os.close(done_write)
    for _ in range(copies - 1):
        if os.read(done_read, 1) != b"d":
            sys.exit("a copy ended")
    print("ready", flush=True)
    sys.stdin.readline()
    os.close(go_write)
    bad = bad_pages(memory, data, 0)
    for _ in range(copies - 1):
        content = os.read(done_read, _COUNT.size)
        if len(content) != _COUNT.size:
            sys.exit("a copy ended before it had checked its pages")
        bad += _COUNT.unpack(content)[0]
    print(json.dumps({"bad_pages": bad}), flush=True)


if __name__ == "__main__":
    main()
