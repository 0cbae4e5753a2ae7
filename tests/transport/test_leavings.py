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
from fuseswap.filesystem.parameters import PARAMETERS, set_parameter
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.filesystem.tree import PAGE_BASE, PARAMS, STATS, Tree
from fuseswap.store.geometry import Geometry
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.fault_injection import Faults, FaultyEngine
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import Engine
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.pyfuse3 import TreeOperations
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.effort import EFFORT
from tests.support.fuse_requests import (
    ROOT,
    SET_SIZE,
    SWAPFILE,
    Op,
    fallocate_request,
    lseek_request,
    read_request,
    request,
    setattr_request,
    write_request,
)
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
PUNCH = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
FILE_PAGES = 4096
EXTENTS = 16
GEOMETRY = Geometry(page_count=FILE_PAGES, segment_count=8 + EXTENTS + 1, frame_count=8)
_STATISTIC, _PARAMETER = 0x1000, 0x2000

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
    "InPlace._busy": DEPTH * 256 + 4 * 64 * 16,
    "InPlace._stores": DEPTH * 256,
    "InPlace._busy[]": DEPTH,
    "EvictionQueue._lines[]": FRAMES,
    "EvictionQueue._gathered": FRAMES,
    "FaultyEngine._flipped": FILE_PAGES,
    "SegmentTable.bases": SEGMENTS,
    "SegmentTable.live": SEGMENTS,
    "SegmentTable.live_bytes": SEGMENTS,
    "SegmentTable.extra": SEGMENTS,
    "SegmentTable._free_ids": SEGMENTS,
    "References._tables": FRAMES + EXTENTS,
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


class Answering(DevFuse):
    """Counts the requests that are not answered yet."""

    def __init__(self, fd: int, tree: Tree) -> None:
        super().__init__(fd, tree)
        self.waiting = 0
        self.answered = trio.Event()

    def _reply(self, slot: int, reply: bytes) -> None:
        super()._reply(slot, reply)
        self.waiting -= 1
        self.answered.set()
        self.answered = trio.Event()


class Bodies:
    """What is written: of each kind of page, some again and again and some never before."""

    def __init__(self) -> None:
        self._chance = random.Random(1)
        kinds = (pages.compressible, pages.incompressible, pages.nearly_incompressible)
        self._pages = [make(seed) for seed in range(12) for make in kinds]
        self._pages += [pages.related(seed) for seed in range(12)]
        self._pages += [pages.filled(seed) for seed in range(4)]
        self._numbers = itertools.count(1)

    def page(self) -> bytes:
        page = self._chance.choice(self._pages)
        if self._chance.random() < 0.25:
            return page
        return next(self._numbers).to_bytes(8, "little") + page[8:]

    def mebibyte(self) -> bytes:
        some = b"".join(self.page() for _ in range(16))
        return some * 16 if self.number(16) == 0 else some + self._pages[-1] * 240

    def at(self, size: int = PAGE_SIZE) -> int:
        """Where in the file something of ``size`` may go, on a page."""
        return self._chance.randrange(FILE_PAGES - size // PAGE_SIZE + 1) * PAGE_SIZE

    def number(self, below: int) -> int:
        return self._chance.randrange(below)


def requests_of(bodies: Bodies) -> dict[str, Callable[[], bytes]]:
    """What the kernel sends, by kind."""

    def malformed() -> bytes:
        whole = bytearray(write_request(bodies.at(), bodies.page()))
        at = bodies.number(48)
        whole[at] ^= 1 << bodies.number(8)
        return bytes(whole[: 16 + bodies.number(len(whole) - 16)])

    def name(directory: int, text: str) -> bytes:
        return request(Op.LOOKUP, directory, text.encode() + b"\0")

    def statistic() -> int:
        return _STATISTIC + bodies.number(len(STATISTICS))

    def parameter() -> int:
        return _PARAMETER + bodies.number(len(PARAMETERS))

    def page() -> int:
        return PAGE_BASE + bodies.number(FILE_PAGES)

    return {
        "read": lambda: read_request(bodies.at(), PAGE_SIZE),
        "wide read": lambda: read_request(bodies.at(65536), 65536),
        "odd read": lambda: read_request(bodies.at() + 100, 9000),
        "write": lambda: write_request(bodies.at(), bodies.page()),
        "partial write": lambda: write_request(bodies.at() + 100, b"x" * 50),
        "odd write": lambda: write_request(bodies.at(16384) + 100, bodies.page() * 2),
        "large write": lambda: write_request(bodies.at(MIB), bodies.mebibyte()),
        "write beyond the end": lambda: write_request(FILE_PAGES * PAGE_SIZE, bodies.page()),
        "discard": lambda: fallocate_request(PUNCH, bodies.at(), PAGE_SIZE),
        "wide discard": lambda: fallocate_request(PUNCH, bodies.at(65536), 65536),
        "partial discard": lambda: fallocate_request(PUNCH, bodies.at() + 100, 50),
        "statistic": lambda: read_request(0, 4096, inode=statistic()),
        "parameter": lambda: read_request(0, 4096, inode=parameter()),
        "a page explained": lambda: read_request(0, 4096, inode=page()),
        "bad value": lambda: write_request(0, b"nonsense\n", inode=parameter()),
        "statistic set": lambda: write_request(0, b"1\n", inode=statistic()),
        "lookup": lambda: name(ROOT, "swapfile"),
        "lookup of nothing": lambda: name(STATS, "nothing"),
        "getattr": lambda: request(Op.GETATTR, SWAPFILE, bytes(16)),
        "setattr": lambda: setattr_request(SWAPFILE, SET_SIZE, size=4096),
        "open": lambda: request(Op.OPEN, PARAMS, bytes(8)),
        "readdir": lambda: request(Op.READDIR, STATS, bytes(16) + b"\0\x10\0\0" + bytes(20)),
        "statfs": lambda: request(Op.STATFS, ROOT),
        "lseek": lambda: lseek_request(bodies.at(), os.SEEK_DATA),
        "fsync": lambda: request(Op.FSYNC, SWAPFILE, bytes(16)),
        "forget": lambda: request(Op.FORGET, SWAPFILE, bytes(8)),
        "no such thing": lambda: request(Op.IOCTL, SWAPFILE, bytes(32)),
        "malformed": malformed,
    }


def operations_of(
    bodies: Bodies, tree: TreeOperations
) -> dict[str, Callable[[], Awaitable[object]]]:
    """What libfuse calls, by kind."""
    swapfile = pyfuse3.FileHandleT(0)

    async def text(inode: int) -> None:
        handle = (await tree.open(pyfuse3.InodeT(inode), os.O_RDONLY, None)).fh
        await tree.read(handle, 0, 4096)
        await tree.release(handle)

    async def bad_value() -> None:
        handle = (await tree.open(pyfuse3.InodeT(_PARAMETER), os.O_WRONLY, None)).fh
        try:
            await tree.write(handle, 0, b"nonsense\n")
        finally:
            await tree.release(handle)

    return {
        "read": lambda: tree.read(swapfile, bodies.at(), PAGE_SIZE),
        "wide read": lambda: tree.read(swapfile, bodies.at(65536), 65536),
        "write": lambda: tree.write(swapfile, bodies.at(), bodies.page()),
        "partial write": lambda: tree.write(swapfile, bodies.at() + 100, b"x" * 50),
        "large write": lambda: tree.write(swapfile, bodies.at(MIB), bodies.mebibyte()),
        "statistic": lambda: text(_STATISTIC + bodies.number(len(STATISTICS))),
        "parameter": lambda: text(_PARAMETER + bodies.number(len(PARAMETERS))),
        "bad value": bad_value,
        "lookup": lambda: tree.lookup(ROOT, b"swapfile", None),
        "lookup of nothing": lambda: tree.lookup(STATS, b"nothing", None),
        "getattr": lambda: tree.getattr(SWAPFILE, None),
        "statfs": lambda: tree.statfs(None),
        "fsync": lambda: tree.fsync(swapfile, False),
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
            FileTier(file) if layout == "packed" else None,
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
        self.operations = TreeOperations(self.tree)
        self._chance = random.Random(2)
        self._settings = itertools.cycle(SETTINGS)

    async def serve(self, transport: str, count: int) -> None:
        """``count`` requests of each kind, while all that goes on in a worker goes on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.engine.run)
            nursery.start_soon(self.device.writeback.run)
            nursery.start_soon(self.device.recompression.run)
            nursery.start_soon(self.device.merging.run)
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
