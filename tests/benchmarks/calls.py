"""Thread time of a store, an overwrite, a load and a discard of a page in memory.

    PYTHONPATH=DIRECTORY:. python -m tests.benchmarks.calls

It mounts nothing.  DIRECTORY has the package to measure, say that of
`tests.support.compiled_core`.  The last two lines are what codec and checksum take of a store and
of a load: the rest is Python's.  Printed is the lowest of all rounds, and the median.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from statistics import median

import lz4.block
import xxhash

from fuseswap.core.modules import is_compiled
from fuseswap.filesystem.device import Device
from fuseswap.units import MIB, PAGE_SIZE, page_range
from tests.support.memory_devices import memory_device

_PAGES = 1000
_ROUNDS = 12
_RANDOM_BYTES = 1000  # of a page; the rest is words, so that lz4 leaves 59 %


def page_like_a_program() -> bytes:
    """One page that lz4 compresses to 2400 bytes or so."""
    chance = random.Random(5)
    words = [chance.randbytes(chance.randrange(2, 9)) for _ in range(300)]
    text = b"".join(chance.choice(words) for _ in range(400))[:1500]
    return chance.randbytes(_RANDOM_BYTES) + text.ljust(PAGE_SIZE - _RANDOM_BYTES, b"\0")


def jobs(device: Device) -> dict[str, Callable[[], None]]:
    """What is measured, in order."""
    page = memoryview(page_like_a_program())
    payload: bytes = lz4.block.compress(page, store_size=False)
    frontswap = device.frontswap

    def store() -> None:
        for number in page_range(0, _PAGES):
            frontswap.store(number, page)

    def load() -> None:
        for number in page_range(0, _PAGES):
            frontswap.load(number)

    def discard() -> None:
        frontswap.invalidate_area(page_range(0, 1)[0], _PAGES)

    def compress() -> None:
        for _ in range(_PAGES):
            xxhash.xxh3_64_intdigest(lz4.block.compress(page, store_size=False), 4)

    def decompress() -> None:
        for _ in range(_PAGES):
            xxhash.xxh3_64_intdigest(payload, 4)
            lz4.block.decompress(payload, PAGE_SIZE)

    return {
        "store": store,
        "overwrite": store,
        "load": load,
        "discard": discard,
        "codec of a store": compress,
        "codec of a load": decompress,
    }


def main() -> None:
    """Measure and print."""
    found: dict[str, list[float]] = {}
    with memory_device(64 * MIB, 256 * MIB) as device:
        device.cache.dedup.set_switch("off")
        measured = jobs(device)
        gc.disable()
        for _ in range(_ROUNDS):
            for name, job in measured.items():
                began = time.thread_time_ns()
                job()
                used_us = (time.thread_time_ns() - began) / _PAGES / 1000
                found.setdefault(name, []).append(used_us)
    print("core:", "compiled" if is_compiled() else "interpreted")
    for name, times in found.items():
        print(f"{name:18}{min(times):8.2f} us{median(times):8.2f} us")


if __name__ == "__main__":
    main()
