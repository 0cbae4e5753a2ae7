"""What a load from a tier costs: Python calls, from the request to the reply."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import Tree
from fuseswap.linux import shared_memory
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.store.segment_entry import SegmentState
from fuseswap.store.slot_word import segment_of
from fuseswap.store.superblock import SharedState
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.units import MIB, PAGE_SIZE, page_range
from tests.support import pages
from tests.support.fuse_requests import FakeKernel, read_request
from tests.support.memory_engine import MemoryEngine

MOST_CALLS = 43  # three of them count how long it took


class Calls:
    """Counts calls of Python functions while it is on."""

    def __init__(self) -> None:
        self.by_function: Counter[str] = Counter()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and "/fuseswap/" in code.co_filename:
            self.by_function[f"{Path(code.co_filename).name}:{code.co_qualname}"] += 1


async def test_a_load_from_a_tier_takes_few_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 8 * MIB
    geometry = Geometry.for_size(64 * MIB, 64 * MIB, extent_count=8)
    _, files = shared_memory.create_files(geometry.region_bytes(), "memfd")
    state = SharedState.create({name: Region(fd) for name, fd in files.items()}, geometry)
    backing = os.open(tmp_path / "backing", os.O_RDWR | os.O_CREAT)
    os.truncate(backing, size + 2 * FIRST_PAGE_AT)
    engine = MemoryEngine(bytearray(size + 2 * FIRST_PAGE_AT))
    device = Device(state, [FileTier(DirectFile(backing, engine))], engine=engine)
    for page in range(300):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(page)))
    log = device.cache.log
    for head in log.heads:
        log.seal(head)
    async with trio.open_nursery() as nursery:
        device.writeback.ask(ReclaimRequest.parse("all"))
        nursery.start_soon(device.writeback.run)
        while not device.statistics()["written_back_pages"]:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    on_tier = [
        page
        for page in page_range(0, 300)
        if log.table.state_of(segment_of(device.cache.slots.get(page))) is SegmentState.ON_TIER
    ]
    kernel = FakeKernel(Tree(device))
    answered: list[bytes] = []
    monkeypatch.setattr(kernel.transport, "_reply", lambda slot, reply: answered.append(reply))
    calls = Calls()
    try:
        sys.setprofile(calls.note)
        assert kernel.raw(read_request(on_tier[7] * PAGE_SIZE, PAGE_SIZE)) is None
        while not answered:
            await trio.lowlevel.checkpoint()
    finally:
        sys.setprofile(None)
    assert answered[0][16:] == pages.compressible(on_tier[7])
    ((request, place, times),) = device.latency.histograms()
    assert (request, place) == ("load", f"tier:{next(iter(device.tiers)).counters.tier}")
    assert sum(times.counts()) == 1
    total = sum(v for k, v in calls.by_function.items())
    assert total <= MOST_CALLS, f"{total}: " + "\n".join(
        f"{n} {c}" for c, n in calls.by_function.items()
    )
