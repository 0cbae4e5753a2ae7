"""The recorder: from the ring to the file, and why it ends."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable

from fuseswap.frontswap.trace_ring import (
    DISCARD,
    KIND_SHIFT,
    LOAD,
    STORE,
    TIME_MASK,
    TIME_SHIFT,
    TraceRing,
)
from fuseswap.laboratory.recorder import Recorder
from fuseswap.laboratory.trace_format import (
    COMPRESSED,
    HOLE,
    INCOMPRESSIBLE,
    SAME_FILLED,
    TraceReader,
    TraceWriter,
)
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.memory_devices import memory_device
from tests.support.traced import memory_ring, raw_events, recorded, traced

PAGE = bytes(range(256)) * 16
NOISE = random.Random(2).randbytes(PAGE_SIZE)


def recorder_of(
    ring: TraceRing,
    file: io.BytesIO,
    sleep: Callable[[float], None],
    limit: int = MIB,
    over: Callable[[], str] = lambda: "",
) -> Recorder:
    return Recorder(ring, TraceWriter(file, {}), limit, over, sleep)


def test_each_event_has_its_class_size_and_place() -> None:
    with memory_device() as device, traced(device) as ring:
        for page, data in enumerate((PAGE, NOISE, b"\7" * PAGE_SIZE)):
            device.swapfile.write(page * PAGE_SIZE, memoryview(data))
            device.swapfile.read(page * PAGE_SIZE, PAGE_SIZE)
        device.swapfile.read(9 * PAGE_SIZE, PAGE_SIZE)
        device.swapfile.punch(0, 3 * PAGE_SIZE)
        events = recorded(ring)
    shown = [(e.kind, e.page, e.kind_of_contents) for e in events]
    assert shown == [
        (STORE, 0, COMPRESSED), (LOAD, 0, COMPRESSED),
        (STORE, 1, INCOMPRESSIBLE), (LOAD, 1, INCOMPRESSIBLE),
        (STORE, 2, SAME_FILLED), (LOAD, 2, SAME_FILLED),
        (LOAD, 9, HOLE), (DISCARD, 0, HOLE),
    ]  # fmt: skip
    assert events[0].size == events[1].size < 400
    assert events[2].size == PAGE_SIZE
    assert events[-1].number == 3


def test_neither_hash_nor_fill_of_the_ring_is_in_the_file() -> None:
    fill = struct.pack("<Q", 0x123456) * (PAGE_SIZE // 8)
    with memory_device() as device, traced(device) as ring:
        for page in range(2):
            device.swapfile.write(page * PAGE_SIZE, memoryview(PAGE))
        device.swapfile.write(2 * PAGE_SIZE, memoryview(fill))
        raw = [number for _, _, number, _ in raw_events(ring)[1:]]
        events = recorded(ring)
    assert events[0].number == events[1].number
    assert {event.number for event in events}.isdisjoint(raw)
    assert 0x123456 not in events[2]


def test_times_are_whole_though_the_ring_has_their_low_bits() -> None:
    with memory_ring() as ring:
        file = io.BytesIO()
        recorder = recorder_of(ring, file, lambda seconds: None)
        base = recorder._now_ns >> TIME_SHIFT
        wanted = [0, 5, 1 << 31, 3 << 30, 1 << 32, (1 << 32) + 7]
        for at, later in enumerate(wanted):
            when = base + later & TIME_MASK
            struct.pack_into("<IIQQ", ring.events, 24 * at, when, at | LOAD << KIND_SHIFT, 0, 0)
            ring.head = at + 1
            recorder.drain(ring.head)
        recorder.end("stopped")
        file.seek(0)
        assert [e.time_ns >> TIME_SHIFT for e in TraceReader(file).events()] == wanted


def test_what_came_within_the_last_pause_stays_until_the_next() -> None:
    with memory_device() as device, traced(device) as ring:
        tails: list[int] = []

        def sleep(seconds: float) -> None:
            tails.append(ring.tail)
            if len(tails) == 1:
                device.swapfile.write(0, memoryview(PAGE))
            if len(tails) == 3:
                ring.stop()

        file = io.BytesIO()
        assert recorder_of(ring, file, sleep).run() == "stopped"
        assert tails == [0, 1, 2, 2], "the note of the begin, then the store"


def test_it_ends_with_the_device_and_at_its_limit() -> None:
    with memory_device() as device, traced(device) as ring:
        gone = recorder_of(ring, io.BytesIO(), lambda s: None, over=lambda: "the device is gone")
        assert gone.run() == "the device is gone"
        file = io.BytesIO()

        def sleep(seconds: float) -> None:
            for page in range(100):
                device.swapfile.write(page * PAGE_SIZE, memoryview(NOISE))

        assert recorder_of(ring, file, sleep, limit=3000).run().endswith("limit")
        assert len(file.getvalue()) < 3000 + 24 * 100 * 60
        file.seek(0)
        reader = TraceReader(file)
        assert sum(1 for _ in reader.events())
        assert str(reader.reason).endswith("limit")


def test_dropped_events_are_said_in_the_file() -> None:
    with memory_device() as device, traced(device, 16) as ring:
        for page in range(30):
            device.swapfile.write(page * PAGE_SIZE, memoryview(PAGE))
        file = io.BytesIO()
        Recorder(ring, TraceWriter(file, {}), MIB, lambda: "").end("stopped")
        file.seek(0)
        reader = TraceReader(file)
        assert len(list(reader.events())) == 15
        assert reader.dropped == 15
