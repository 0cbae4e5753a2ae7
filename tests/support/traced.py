"""A device in memory with a trace: the ring that it writes into, and what became of that."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fuseswap.filesystem.device import Device
from fuseswap.frontswap.trace_ring import EVENT, EVENT_BYTES, TraceRing, ring_bytes
from fuseswap.laboratory.recorder import Recorder
from fuseswap.laboratory.trace_format import Event, TraceReader, TraceWriter
from fuseswap.store.region import Region


@contextmanager
def memory_ring(capacity: int = 1024) -> Iterator[TraceRing]:
    fd = os.memfd_create("ring")
    os.ftruncate(fd, ring_bytes(capacity))
    ring = TraceRing.create(Region(fd), capacity)
    try:
        yield ring
    finally:
        ring.close()
        os.close(fd)


@contextmanager
def traced(device: Device, capacity: int = 1024) -> Iterator[TraceRing]:
    with memory_ring(capacity) as ring:
        device.swapfile.trace(ring)
        try:
            yield ring
        finally:
            device.swapfile.trace(None)


def raw_events(ring: TraceRing) -> list[tuple[int, ...]]:
    found = ring.read(ring.tail, ring.head - ring.tail)
    return [EVENT.unpack_from(found, at) for at in range(0, len(found), EVENT_BYTES)]


def recorded(ring: TraceRing) -> list[Event]:
    """All that is in the ring, through recorder and file."""
    file = io.BytesIO()
    recorder = Recorder(ring, TraceWriter(file, {}), 1 << 30, lambda: "")
    recorder.end("stopped")
    file.seek(0)
    return list(TraceReader(file).events())
