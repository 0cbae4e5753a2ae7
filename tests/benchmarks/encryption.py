"""What encryption costs the serving thread: ``python -m tests.benchmarks.encryption``.

Processor time of one thread, the best of many: a segment, a slice of it, and a page that lies in
one block, or in two.  And a page beside a thread that encrypts, or beside slices, at 200 MiB/s:
what a small read takes there, 99.9 of 100 times.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fuseswap.tiers.encrypted_tier import SLICE_CHUNKS
from fuseswap.tiers.segment_cipher import CHUNKS, SegmentCipher
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, PAGE_SIZE, SEGMENT_BYTES

_SEGMENTS_PER_S = 200
_SECONDS = 3.0


def best_us(work: Callable[[], object], rounds: int, each: int = 1) -> float:
    """Microseconds of ``each`` calls, at best."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(each):
            work()
        took.append(time.perf_counter() - start)
    return min(took) / each * 1e6


def small_reads_us(encrypt: Callable[[int, int], object], slices: int, *, thread: bool) -> float:
    """The 99.9th percentile of small reads while segments are encrypted at a steady rate.

    ``slices`` a segment: 0 encrypts nothing.
    """
    zero = os.open("/dev/zero", os.O_RDONLY)
    page = bytearray(PAGE_SIZE)
    took = []
    begun = done = 0
    job: Future[object] | None = None
    with ThreadPoolExecutor(1) as pool:
        start = now = time.perf_counter()
        while now < start + _SECONDS:
            due = slices and done == begun and begun < (now - start) * _SEGMENTS_PER_S * slices
            begun += bool(due)
            if begun > done and thread and job is None:
                job = pool.submit(encrypt, 0, CHUNKS)
            os.readv(zero, [page])
            if job is not None and job.done():
                job = None
                done += slices
                begun = done
            elif begun > done and not thread:
                first = done % slices * SLICE_CHUNKS
                encrypt(first, min(first + SLICE_CHUNKS, CHUNKS))
                done += 1
            took.append(time.perf_counter() - now)
            now = time.perf_counter()
    os.close(zero)
    return sorted(took)[len(took) * 999 // 1000] * 1e6


def main() -> None:
    """Print it."""
    cipher = SegmentCipher(os.urandom(32), b"benchmark", 0)
    segment = memoryview(mmap.mmap(-1, SEGMENT_BYTES))
    segment[:] = os.urandom(SEGMENT_BYTES)
    blocks = memoryview(mmap.mmap(-1, ENCRYPTED_SEGMENT_BYTES))

    def seal(first: int, end: int) -> None:
        cipher.seal(1, 1, segment, blocks, first, end)

    seal(0, CHUNKS)
    one, two = bytes(blocks[:PAGE_SIZE]), bytes(blocks[: 2 * PAGE_SIZE])
    print(f"segment            {best_us(lambda: seal(0, CHUNKS), 100):8.1f} us")
    print(f"slice              {best_us(lambda: seal(0, SLICE_CHUNKS), 500):8.1f} us")
    print(f"page in one block  {best_us(lambda: cipher.open(1, 1, one, 0, 1), 50, 1000):8.1f} us")
    print(f"page in two blocks {best_us(lambda: cipher.open(1, 1, two, 0, 2), 50, 1000):8.1f} us")
    slices = -(-CHUNKS // SLICE_CHUNKS)
    for name, count, thread in (("nothing", 0, False), ("thread", slices, True)):
        print(f"p99.9 beside {name:9}{small_reads_us(seal, count, thread=thread):5.0f} us")
    print(f"p99.9 beside slices   {small_reads_us(seal, slices, thread=False):5.0f} us")


if __name__ == "__main__":
    main()
