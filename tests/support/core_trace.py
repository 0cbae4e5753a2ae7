"""One run of models through whichever core is on the path: what it leaves in shared memory.

    python -m tests.support.core_trace DIRECTORY [SEED]

Its steps come from the seed alone, and clocks and random bytes are the same each time.  So two
runs leave the same bytes.  DIRECTORY gets a file for each region of each model, `replies`, the
answers to all requests, and `core`, ``compiled`` or ``interpreted``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fuseswap.core.modules import is_compiled
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import Tree
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.fuse_requests import (
    FakeKernel,
    fallocate_request,
    read_request,
    request,
    write_request,
)
from tests.support.memory_stores import SMALL, SharedMemory
from tests.support.models import Step, play
from tests.unit.filesystem.test_writeback_model import KINDS, Model

_STEPS = 120
_REQUESTS = 3000
_PUNCH = 3  # KEEP_SIZE | PUNCH_HOLE
_MAKERS: tuple[Callable[[int], bytes], ...] = (
    lambda seed: pages.ZERO,
    pages.filled,
    lambda seed: pages.filled(seed << 32 | seed),
    lambda seed: pages.filled(1 << 60 | seed),
    pages.compressible,
    pages.related,
    pages.hexadecimal,
    pages.nearly_incompressible,
    pages.incompressible,
)


def steps_of(seed: int) -> Iterator[Step]:
    """Steps of the model of writeback, tiers that come and go among them."""
    chance = random.Random(seed)

    def run() -> tuple[int, int, int]:
        return chance.randrange(11) * 200, chance.choice((1, 3, 50, 300)), chance.choice((1, 1, 2))

    yield ("add", "far")
    for _ in range(_STEPS):
        kind = chance.choice(sorted(KINDS))
        yield chance.choice(
            (
                ("store", *run(), kind, chance.randrange(4)),
                ("store", *run(), kind, chance.randrange(4)),
                ("store", *run(), kind, chance.randrange(4)),
                ("load", *run()),
                ("discard", *run()),
                ("change", chance.randrange(2000)),
                ("clean", chance.randrange(1, 5)),
                ("limit", chance.choice((4, 6, 8))),
                ("recompress", 50, chance.choice((None, 0, 1))),
                ("write_back",),
                ("dedup", chance.choice(("auto", "on", "off"))),
                ("sweep", 20),
                ("rest", 0.5),
                ("scrub",),
                ("next_worker",),
            )
        )


def requests_of(seed: int) -> Iterator[bytes]:
    """Reads, writes and discards of whole pages, of parts and of many; some are malformed."""
    chance = random.Random(seed)
    size = SMALL.page_count * PAGE_SIZE
    for _ in range(_REQUESTS):
        page = chance.randrange(SMALL.page_count)
        data = chance.choice(_MAKERS)(chance.randrange(8))
        start = chance.choice((0, 0, 0, chance.randrange(PAGE_SIZE)))
        at = page * PAGE_SIZE + start
        kind = chance.randrange(20)
        if kind < 9:
            yield write_request(at, data[: PAGE_SIZE - start])
        elif kind < 10:
            yield write_request(at, data * chance.randrange(1, 9))
        elif kind < 16:
            yield read_request(at, chance.choice((PAGE_SIZE, PAGE_SIZE, 100, 20 * PAGE_SIZE)))
        elif kind < 19:
            yield fallocate_request(_PUNCH, at, chance.choice((PAGE_SIZE, 50, size // 8)))
        else:
            yield request(chance.randrange(60), 2, chance.randbytes(chance.randrange(100)))


def keep(memory: SharedMemory, directory: Path, name: str) -> None:
    """Write down what is in ``memory``; zeros are holes."""
    for region, fd in memory.fds.items():
        length = os.fstat(fd).st_size
        with (directory / f"{name}-{region}").open("wb") as out:
            out.truncate(length)
            for at in range(0, length, MIB):
                piece = os.pread(fd, MIB, at)
                if piece.count(0) != len(piece):
                    os.pwrite(out.fileno(), piece, at)


def play_model(directory: Path, seed: int) -> None:
    class Kept(Model):
        async def settle(self) -> None:
            await super().settle()
            keep(self.memory, directory, "model")

    def make(memory: SharedMemory, nursery: trio.Nursery, clock: MockClock) -> Model:
        return Kept(memory, nursery, clock)

    play(make, list(steps_of(seed)))


def answer_requests(directory: Path, seed: int) -> None:
    """Through the transport; the worker is replaced now and then."""
    memory = SharedMemory()
    requests = list(requests_of(seed))
    with (directory / "replies").open("wb") as replies:
        for start in range(0, len(requests), 500):
            kernel = FakeKernel(Tree(Device(memory.attach())))
            for message in requests[start : start + 500]:
                replies.write(kernel.raw(message) or b"none")
            kernel.close()
    keep(memory, directory, "requests")
    memory.close()


def main() -> None:
    directory, seed = Path(sys.argv[1]), int((*sys.argv[2:], "1")[0])
    chance = random.Random(seed)
    patch = pytest.MonkeyPatch()  # for good: this process ends with the run
    patch.setattr(os, "urandom", chance.randbytes)
    patch.setattr(time, "clock_gettime", lambda clock: 1000.0)
    patch.setattr(time, "perf_counter", lambda: 1000.0)
    patch.setattr(time, "thread_time", lambda: 1000.0)
    patch.setattr(time, "time_ns", lambda: 10**18)
    # Else tasks that can run do so in an order of chance.
    patch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    patch.setattr("trio._core._run._r", random.Random(seed))
    (directory / "core").write_text("compiled" if is_compiled() else "interpreted")
    answer_requests(directory, seed)
    play_model(directory, seed)


if __name__ == "__main__":
    main()
