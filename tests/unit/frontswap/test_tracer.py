"""A tracer writes down each load, store and discard, and never waits for who reads them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from fuseswap.errors import Deferred, HostError, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.swapfile import Swapfile
from fuseswap.frontswap.trace_ring import (
    BEGIN,
    DISCARD,
    HEADER_BYTES,
    KIND_SHIFT,
    LOAD,
    NOTE,
    PAGE_MASK,
    STORE,
    TICK,
    TraceRing,
)
from fuseswap.frontswap.tracer import Tracer
from fuseswap.store.slot_word import is_same_object
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support.fake_tier import FakeTier
from tests.support.memory_devices import flip_bit_of_page, memory_device
from tests.support.traced import memory_ring, raw_events, traced

pytestmark = pytest.mark.slow

PAGE = bytes(range(256)) * 16


@pytest.fixture
def device() -> Iterator[Device]:
    with memory_device() as device:
        yield device


def kinds(ring: TraceRing) -> list[tuple[int, int]]:
    return [(page >> KIND_SHIFT, page & PAGE_MASK) for _, page, _, _ in raw_events(ring)]


def test_loads_stores_and_discards_are_written_in_order(device: Device) -> None:
    with traced(device) as ring:
        device.swapfile.write(8 * PAGE_SIZE, memoryview(PAGE))
        assert device.swapfile.read(8 * PAGE_SIZE, PAGE_SIZE) == PAGE
        device.swapfile.punch(8 * PAGE_SIZE, 4 * PAGE_SIZE)
        assert kinds(ring) == [(NOTE, 0), (STORE, 8), (LOAD, 8), (DISCARD, 8)]
        begin, store, load, discard = raw_events(ring)
        assert begin[3] == BEGIN
        assert is_same_object(store[3], load[3])
        assert discard[2] == 4


def test_a_switched_off_trace_leaves_the_bound_methods_of_the_front_end(device: Device) -> None:
    before = vars_of(device.swapfile)
    with traced(device):
        assert vars_of(device.swapfile) != before
    assert vars_of(device.swapfile) == before


def vars_of(swapfile: Swapfile) -> tuple[object, object]:
    return swapfile._read_page, swapfile._store


def test_the_same_contents_have_the_same_hash_in_one_trace_alone(device: Device) -> None:
    hashes = []
    for _ in range(2):
        with traced(device) as ring:
            device.swapfile.write(0, memoryview(PAGE))
            device.swapfile.write(PAGE_SIZE, memoryview(PAGE))
            device.swapfile.write(PAGE_SIZE, memoryview(PAGE[::-1]))
            hashes.append([number for _, page, number, _ in raw_events(ring)[1:]])
    assert hashes[0][0] == hashes[0][1] != hashes[0][2]
    assert hashes[0][0] != hashes[1][0], "the salt is new"


def test_where_the_ring_is_full_events_are_counted_and_nothing_waits(device: Device) -> None:
    with traced(device, 8) as ring:
        for page in range(20):
            device.swapfile.write(page * PAGE_SIZE, memoryview(PAGE))
        assert ring.head == 8
        assert ring.dropped == 13  # one was the note of its begin
        assert device.swapfile.read(19 * PAGE_SIZE, PAGE_SIZE) == PAGE
        ring.tail = 4
        for page in range(20):
            device.swapfile.read(page * PAGE_SIZE, PAGE_SIZE)
        assert kinds(ring)[-4:] == [(LOAD, page) for page in range(4)]
        assert ring.dropped == 30


def test_the_next_worker_goes_on_behind_the_last_event(device: Device) -> None:
    with traced(device) as ring:
        device.swapfile.write(0, memoryview(PAGE))
        device.swapfile.trace(ring)
        device.swapfile.write(PAGE_SIZE, memoryview(PAGE))
        assert kinds(ring) == [(NOTE, 0), (STORE, 0), (NOTE, 0), (STORE, 1)]


def test_a_second_is_a_tick(device: Device) -> None:
    with traced(device) as ring:
        device.swapfile.settle()
        assert raw_events(ring)[-1][3] == TICK


def test_exclusive_loads_are_traced_too(device: Device) -> None:
    with traced(device) as ring:
        device.swapfile.exclusive_loads = True
        device.swapfile.write(PAGE_SIZE, memoryview(PAGE))
        device.swapfile.read(PAGE_SIZE, PAGE_SIZE)
        device.swapfile.settle()
        device.swapfile.settle()
        device.swapfile.read(PAGE_SIZE, PAGE_SIZE)
        loads = [event for event in raw_events(ring) if event[1] == 1]
        assert [event[3] == 0 for event in loads] == [False, True], "a hole, the second time"


def test_a_refused_store_and_a_corrupt_load_are_events(device: Device) -> None:
    with traced(device) as ring:
        device.cache.encoder.non_same_filled_pages_enabled = False
        with pytest.raises(StoreRefused):
            device.swapfile.write(0, memoryview(PAGE))
        assert raw_events(ring)[-1][3] == 0
        device.cache.encoder.non_same_filled_pages_enabled = True
        device.swapfile.write(0, memoryview(PAGE))
        flip_bit_of_page(device, 0)
        with pytest.raises(Exception, match="page 0"):
            device.swapfile.read(0, PAGE_SIZE)
        assert raw_events(ring)[-1][2] == 0xFFFF


def test_a_read_of_several_pages_is_an_event_for_each(device: Device) -> None:
    device.add_tier(FakeTier(4))
    chance = random.Random(1)
    with traced(device) as ring:
        for page in range(8):
            device.swapfile.write(page * PAGE_SIZE, memoryview(chance.randbytes(PAGE_SIZE)))
        found: list[int] = []

        def defer(page: PageNumber) -> bytes | None:
            found.append(page)
            if page == 3:
                raise Deferred("it is elsewhere")
            return bytes(PAGE_SIZE)

        tracer = Tracer(device.frontswap, ring, lambda word: 7, defer)
        device.swapfile._tracer, device.swapfile._read_page = tracer, tracer.load
        with pytest.raises(Deferred):
            device.swapfile.read(PAGE_SIZE, 7 * PAGE_SIZE)
        assert found == [1, 2, 3]
        events = raw_events(ring)[-7:]
        assert [page for _, page, _, _ in events] == list(range(1, 8))
        assert [place for _, _, place, _ in events] == [0, 0, 7, 7, 7, 7, 7]


@pytest.mark.parametrize("damage", [0, 8, 9])
def test_a_file_that_is_no_ring_is_refused(damage: int) -> None:
    with memory_ring(64) as ring:
        ring.region.buffer[damage] ^= 0x5A
        with pytest.raises(HostError, match="no ring"):
            TraceRing(ring.region)
        assert ring.region.size_bytes == HEADER_BYTES + 64 * 24
