"""Devices whose segment table says that there are many segments, of which no byte is there."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fuseswap.filesystem.device import Device
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.store.segment_entry import SegmentState, Stream, entry_word, location_bits
from fuseswap.store.superblock import SharedState
from fuseswap.units import SEGMENT_BYTES, Location
from tests.support.fake_tier import FakeTier

_LIVE_BYTES = SEGMENT_BYTES * 97 // 100


@contextmanager
def state_of_many(in_memory: int, on_tier: int) -> Iterator[SharedState]:
    """The state that a worker left: sealed segments in memory, then those on tier 0."""
    segments = in_memory + on_tier
    geometry = Geometry(1 << 18, segments + 64, in_memory + 32)
    files = {name: os.memfd_create(name) for name in geometry.region_bytes()}
    for name, size in geometry.region_bytes().items():
        os.ftruncate(files[name], size)
    state = SharedState.create({name: Region(fd) for name, fd in files.items()}, geometry)
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    entries = state.segments.buffer.cast("Q")
    for number in range(segments):
        at = 4 * (number + 1)
        if number < in_memory:
            entries[at] = entry_word(SegmentState.SEALED, Stream.STORE, number)
        else:
            place = location_bits(Location(0, number - in_memory))
            entries[at] = entry_word(SegmentState.ON_TIER, Stream.EVICTED, place)
        entries[at + 1 : at + 4] = memoryview(
            b"".join(n.to_bytes(8, "little") for n in ((1 << 51) | 900000, number + 1, now))
        ).cast("Q")
    entries.release()
    try:
        yield state
    finally:
        gc.collect()
        state.close()
        for fd in files.values():
            os.close(fd)


@contextmanager
def device_of_many(in_memory: int, on_tier: int) -> Iterator[Device]:
    """A device that has attached to it and counted nothing yet; all segments are as good as full.

    Their pages are only said to be there.
    """
    with state_of_many(in_memory, on_tier) as state:
        device = Device(state, [FakeTier(on_tier + 10)], lazy=True)
        table = device.cache.log.table
        for segment in range(1, in_memory + on_tier + 1):
            table.live[segment] = 1
            table.live_bytes[segment] = _LIVE_BYTES
        try:
            yield device
        finally:
            device.cache.close()
            del device, table


def calls_of(act: Callable[[], object]) -> int:
    """How many functions ``act`` calls, of Python and of C."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls
