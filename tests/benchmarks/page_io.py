"""Writes pages to files or devices, reads them back, and times single reads: a process of its own.

    python -m tests.benchmarks.page_io write PATH DATA
    python -m tests.benchmarks.page_io verify PATH DATA
    python -m tests.benchmarks.page_io time READS SEED SIZE PATH...

DATA is a file of pages, which stand in PATH from its beginning on.  All I/O to PATH is
direct.  ``time`` reads random pages of the first SIZE bytes, one at a time, READS of each
PATH in slices that go round the paths, and prints for each path a JSON list of
nanoseconds.  The first reads of a slice are made and not counted: a server that slept
while it was the others' turn has to wake up first.

It is a process of its own so that whoever started it can give up on it where a mount hangs.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence

from fuseswap.units import KIB, PAGE_SIZE

REQUEST_BYTES = 128 * KIB
SLICE_READS = 500
WARM_READS = 50


def write(path: str, data_path: str) -> None:
    """Write all of the data in requests of 128 KiB.  Raises `OSError`."""
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, REQUEST_BYTES) as buffer:  # direct I/O wants it aligned
            for at, piece in _pieces(data_path):
                buffer[: len(piece)] = piece
                done = os.pwrite(fd, memoryview(buffer)[: len(piece)], at)
                if done != len(piece):
                    raise OSError(f"{path}: wrote {done} of {len(piece)} bytes at {at}")
    finally:
        os.close(fd)


def verify(path: str, data_path: str) -> None:
    """Read all back.  Raises `OSError`, also for the first page that is not what was written."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, REQUEST_BYTES) as buffer:
            for at, piece in _pieces(data_path):
                done = os.preadv(fd, [memoryview(buffer)[: len(piece)]], at)
                if done != len(piece) or buffer[: len(piece)] != piece:
                    raise OSError(f"{path}: BAD PAGE at {at} to {at + len(piece)}")
    finally:
        os.close(fd)


def _pieces(data_path: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    with open(data_path, "rb") as file:
        while piece := file.read(REQUEST_BYTES):
            yield at, piece
            at += len(piece)


def timed(paths: Sequence[str], size_bytes: int, reads: int, seed: int) -> list[list[int]]:
    """Nanoseconds of each counted read, by path; all paths are read at the same places."""
    pages = size_bytes // PAGE_SIZE
    source = random.Random(seed)
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in paths]
    found: list[list[int]] = [[] for _ in paths]
    gc.disable()
    try:
        with mmap.mmap(-1, PAGE_SIZE) as buffer:
            for turn in range(-(-reads // SLICE_READS)):
                count = min(SLICE_READS, reads - turn * SLICE_READS)
                places = [source.randrange(pages) * PAGE_SIZE for _ in range(WARM_READS + count)]
                for step in range(len(fds)):
                    which = (turn + step) % len(fds)
                    found[which] += _slice(fds[which], buffer, places)[WARM_READS:]
    finally:
        for fd in fds:
            os.close(fd)
    return found


def _slice(fd: int, buffer: mmap.mmap, places: Sequence[int]) -> list[int]:
    now, read = time.perf_counter_ns, os.preadv
    into = [buffer]
    spent = []
    for at in places:
        began = now()
        read(fd, into, at)
        spent.append(now() - began)
    return spent


def main(arguments: Sequence[str]) -> int:
    """Entry point."""
    what, *rest = arguments
    try:
        if what == "time":
            reads, seed, size_bytes, *paths = rest
            for found in timed(paths, int(size_bytes), int(reads), int(seed)):
                print(json.dumps(found))
        else:
            {"write": write, "verify": verify}[what](*rest)
    except OSError as exc:
        print(f"{exc.strerror or exc} ({' '.join(arguments)})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
