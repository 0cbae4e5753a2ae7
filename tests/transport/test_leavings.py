"""Whatever is asked, and however it ends: no reference cycle is left, no container grows.

Every kind of request, on each layout and through both transports: with a full pool, a backing
file that fails, is slow, writes half or lies, evictions and recompression by demand,
cancellations, and one worker after another on the same state.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyfuse3
import pytest
import trio
from trio.testing import MockClock

from fuseswap.codecs.dictionary import MAX_DICTIONARIES
from fuseswap.errors import FuseswapError
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.latency import QUICK
from fuseswap.filesystem.parameters import PARAMETERS, set_parameter
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.filesystem.tree import Tree
from fuseswap.store.geometry import Geometry
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.fault_injection import Faults, FaultyEngine
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import Engine
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.transport.pyfuse3 import TreeOperations
from fuseswap.transport.share import Share
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.effort import EFFORT
from tests.support.every_request import FILE_PAGES, Answering, Bodies, operations_of, requests_of
from tests.support.fuse_requests import Op
from tests.support.leftovers import Garbage, collector_off, containers, too_long
from tests.support.memory_engine import MemoryEngine
from tests.support.memory_stores import SharedMemory
from tests.support.recompressed_devices import at_once

EACH = 10_000 if EFFORT >= 1 else 300  # requests of a kind
WORKERS = 2
DEPTH = 24  # requests in flight
LAYOUTS = ("none", "packed", "in-place")
FAULTS: tuple[dict[str, dict[str, object]], ...] = (
    {},
    {"write": {"errno": "EIO", "probability": 0.3}, "read": {"errno": "EIO", "probability": 0.3}},
    {"write": {"short": True, "probability": 0.5}, "read": {"flip": True, "probability": 0.5}},
    {"write": {"latency_s": 0.05}, "read": {"latency_s": 0.02}},
)
EXTENTS = 16
GEOMETRY = Geometry(page_count=FILE_PAGES, segment_count=8 + EXTENTS + 1, frame_count=8)

# Set one after the other while it runs.
SETTINGS = (
    ("recompress", "all"),
    ("writeback", "all"),
    ("writethrough", "Y"),
    ("max_compression_ratio", "30"),
    ("dedup", "off"),
    ("writeback", "incompressible"),
    ("writeback_limit_bytes", "3M"),
    ("recomp_algorithm", "none"),
    ("dedup", "on"),
    ("writethrough", "N"),
    ("recomp_algorithm", "zstd:1"),
    ("max_compression_ratio", "100"),
    ("writeback_limit_bytes", "none"),
    ("recompress", "idle=1"),
    ("writeback", "idle=1"),
)

# Nothing in a device is longer than 64, but what is derived by segment, by cluster or by page in
# flight; MiB are counted where bytes are.
SEGMENTS = GEOMETRY.segment_count + 256  # ids are made 256 at a time
FRAMES = GEOMETRY.frame_count
OTHERS = 64
BOUNDS = {
    "AioEngine._ended": 320,
    "ByDictionary._open": MAX_DICTIONARIES,
    "Copier._moved": 4096,
    "DictionaryUse.pages": MAX_DICTIONARIES,
    "DictionaryUse._of": SEGMENTS,
    "DictionaryUse._of[]": 1 + MAX_DICTIONARIES,
    "DictionaryUse.inexact": SEGMENTS,
    "Copier._owners": FILE_PAGES,
    "DevFuse._own_buffer": 2 * MIB,
    "Buffers._free[][]": 128,
    "Buffers._line": 64,
    "PlaceWrites._busy": DEPTH * 256 + 4 * 64 * 16,
    "Frontswap._late": DEPTH * 256,
    "PlaceWrites._busy[]": DEPTH,
    "EvictionQueue._lines[]": FRAMES,
    "EvictionQueue._gathered": FRAMES,
    "FaultyEngine._flipped": FILE_PAGES,
    "Latency.loads": QUICK,
    "Latency.stores": QUICK,
    "Latency.uncounted": QUICK,
    "SegmentTable.bases": SEGMENTS,
    "SegmentTable.live": SEGMENTS,
    "SegmentTable.live_bytes": SEGMENTS,
    "SegmentTable.extra": SEGMENTS,
    "SegmentTable._free_ids": SEGMENTS,
    "ReadTimes._counts": 96,
    "Refcounts._tables": FRAMES + EXTENTS,
    "_Table.entries": 8192,
    "Tree._directories[]": len(STATISTICS),
    "Tree._names[]": len(STATISTICS),
}


# What must have happened, or little is shown: names of statistics, by layout.
ALWAYS = ("loads", "succ_stores", "recompressed_pages", "failed_requests", "segments_cleaned")
WITH_A_FILE = ("written_back_pages", "writeback_failed", "tier_loads", "tier_read_retries")
HAPPENED = {
    "none": (*ALWAYS, "failed_stores"),
    "packed": (*ALWAYS, *WITH_A_FILE, "saved_by_writeback"),
    "in-place": (*ALWAYS, *WITH_A_FILE, "in_place_stores"),
}


class Worker:
    """One worker on ``memory``, with a backing file whose faults stand in ``faults``."""

    def __init__(
        self, memory: SharedMemory, layout: str, backing: bytearray, faults: Path, garbage: Garbage
    ) -> None:
        self._garbage = garbage
        self._faults = faults
        self.engine: Engine = FaultyEngine(MemoryEngine(backing), Faults(str(faults)))
        fd = os.memfd_create("size", os.MFD_CLOEXEC)
        os.ftruncate(fd, len(backing))
        file = DirectFile(fd, self.engine)
        os.close(fd)
        self.device = Device(
            memory.attach(),
            [FileTier(file)] if layout == "packed" else [],
            engine=self.engine,
            place_file=file if layout == "in-place" else None,
            lazy=True,
            submit=at_once,
        )
        # Without a file there is not so much that could not be stored.
        frames = 4 if layout != "none" else 2
        self.device.cache.pool_limit_bytes = frames * MIB
        self.tree = Tree(self.device)
        self.fd = os.open("/dev/null", os.O_RDWR)
        self.transport = Answering(self.fd, self.tree)
        self.operations = TreeOperations(self.tree, Share(percent=100))
        self._chance = random.Random(2)
        self._settings = itertools.cycle(SETTINGS)

    async def serve(self, transport: str, count: int) -> None:
        """``count`` requests of each kind, while all that goes on in a worker goes on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.engine.run)
            nursery.start_soon(self.device.writeback.run)
            nursery.start_soon(self.device.recompression.run)
            nursery.start_soon(self.device.sweep.run)
            self.transport._nursery = nursery
            ask = self._by_devfuse if transport == "devfuse" else self._by_pyfuse3
            for faults in FAULTS:
                self._set_faults(faults)
                await ask(nursery, -(-count // len(FAULTS)))
                await trio.sleep(10)
                self._look_around()
            nursery.cancel_scope.cancel()
        os.close(self.fd)

    def statistics(self) -> Counter[str]:
        """By their names."""
        found = self.device.statistics()
        return Counter({name: found[name] for name in found if isinstance(name, str)})

    def _set_faults(self, faults: dict[str, dict[str, object]]) -> None:
        new = self._faults.with_suffix(".new")
        new.write_text(json.dumps(faults))
        new.rename(self._faults)

    def _look_around(self) -> None:
        left = self._garbage.found()
        assert not left, f"only the collector finds: {left.most_common(12)}"
        grown = too_long(containers(self.transport, self.operations), BOUNDS, OTHERS)
        assert not grown, f"longer than their bounds: {grown}"

    async def _stir(self, number: int) -> None:
        """What is set while it runs; then the other tasks have a moment."""
        if number % 5:
            return
        name, value = next(self._settings)
        parameter = next(one for one in PARAMETERS if one.name == name)
        with suppress(FuseswapError):  # not with this layout, or not now
            set_parameter(self.device, parameter, value)
        await trio.sleep(0.5)

    async def _by_devfuse(self, nursery: trio.Nursery, count: int) -> None:
        transport = self.transport
        view = memoryview(transport.buffer)
        kinds = requests_of(Bodies())
        for number in range(count):
            await self._stir(number)
            for make in kinds.values():
                message = make()
                view[: len(message)] = message
                waits = transport.answer(len(message)) is None and not _is_silent(message)
                transport.waiting += waits
                while transport.waiting > DEPTH or transport._is_crowded():
                    await transport.answered.wait()
            await trio.lowlevel.checkpoint()
        while transport.waiting:
            await transport.answered.wait()

    async def _by_pyfuse3(self, nursery: trio.Nursery, count: int) -> None:
        kinds = operations_of(Bodies(), self.operations)
        places = trio.Semaphore(DEPTH)
        for number in range(count):
            await self._stir(number)
            for begin in kinds.values():
                await places.acquire()
                nursery.start_soon(self._answer, begin, places)
        for _ in range(DEPTH):
            await places.acquire()

    async def _answer(self, begin: Callable[[], Awaitable[object]], places: trio.Semaphore) -> None:
        """One operation; now and then its caller is killed meanwhile."""
        with trio.CancelScope() as scope:
            if self._chance.random() < 0.05:
                scope.deadline = trio.current_time() + self._chance.choice((0, 0.01, 0.1))
            with suppress(pyfuse3.FUSEError):
                await begin()
        places.release()


def _is_silent(message: bytes) -> bool:
    """Whether nothing ever answers: it has no header, or none is meant to."""
    opcode = int.from_bytes(message[4:8], "little")
    return len(message) < 40 or opcode in {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT}


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    with collector_off() as found:
        yield found


class _Mistakes(logging.Handler):
    """Keeps the text of errors that were not raised on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.texts.append(self.format(record))


@pytest.fixture
def mistakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Whatever else is logged is not kept, by pytest either: a record keeps its error."""
    log, handler = logging.getLogger("fuseswap"), _Mistakes()
    monkeypatch.setattr(log, "propagate", False)
    log.addHandler(handler)
    yield handler.texts
    log.removeHandler(handler)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("transport", ["devfuse", "pyfuse3"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_left_behind(
    layout: str, transport: str, tmp_path: Path, garbage: Garbage, mistakes: list[str]
) -> None:
    faults = tmp_path / "faults"
    faults.write_text("{}")
    memory = SharedMemory(GEOMETRY)
    room = EXTENTS * MIB if layout == "packed" else FILE_PAGES * PAGE_SIZE
    backing = bytearray(room + BOTH_ENDS_BYTES)
    happened: Counter[str] = Counter()
    for _ in range(WORKERS):
        worker = Worker(memory, layout, backing, faults, garbage)
        serve = partial(worker.serve, transport, EACH // WORKERS)
        trio.run(serve, clock=MockClock(autojump_threshold=0))
        happened += worker.statistics()
        del worker, serve
        garbage.drop()  # a paused worker collects, too
    memory.close()
    assert not mistakes, mistakes
    missed = [name for name in HAPPENED[layout] if not happened[name]]
    assert not missed, f"never happened: {missed}"
