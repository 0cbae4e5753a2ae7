"""Stores that wait for the system's memory; frames given back to a machine that stands still."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fuseswap.errors import Deferred, NoMemory, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.pending_requests import Waits
from fuseswap.linux import syscalls
from fuseswap.reclaim.memory_watch import MemoryWatch
from fuseswap.reclaim.patience import MEMORY_PATIENCE_S, MemoryOrdered, NoRoom
from fuseswap.store.frame_pool import NO_FRAME
from fuseswap.store.geometry import Geometry
from fuseswap.store.memory_reserve import FeederThread
from fuseswap.store.superblock import SharedState
from fuseswap.units import MIB, PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.fake_feeder import FakeFeeder
from tests.support.fake_tier import FakePlaceFile, FakeTier
from tests.support.feeders import Levels
from tests.support.memory_stores import SharedMemory, set_patience
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered

READY = 4


@pytest.fixture
def feeder() -> FakeFeeder:
    return FakeFeeder()


@pytest.fixture
def short(feeder: FakeFeeder) -> Device:
    """A device whose reserve is used up but for what the cleaner keeps."""
    geometry = Geometry.for_size(32 * MIB, 32 * MIB)
    device = Device(SharedMemory(geometry).attach(), feeder=feeder, ready_frames=READY)
    device.cache.keep_ready()
    feeder.deliver()
    device.cache.keep_ready()
    feeder.deliver()
    page = 0
    while True:
        try:
            device.swapfile.write(page * PAGE_SIZE, memoryview(pages.incompressible(page)))
        except MemoryOrdered:
            break
        page += 1
    return device


async def store(device: Device, page: int, data: bytes) -> None:
    """As a transport does."""
    tried: Deferred | None = None
    try:
        device.swapfile.write(page * PAGE_SIZE, memoryview(data))
        return
    except Deferred as exc:
        tried = exc
    await device.pending_io.write(page * PAGE_SIZE, memoryview(data), tried)


async def test_a_store_waits_for_memory_and_is_done_once_it_is_there(
    short: Device, feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, short, 4000, pages.incompressible(4000))
        await trio.sleep(MEMORY_PATIENCE_S / 2)
        assert short.frontswap.load(PageNumber(4000)) is None
        feeder.deliver_frames(1)
    assert short.frontswap.load(PageNumber(4000)) == pages.incompressible(4000)
    assert short.pending_io.counters.reserve_refused == 0


async def test_without_memory_a_store_is_refused_in_time_and_is_never_stale(
    short: Device, autojump_clock: trio.testing.MockClock
) -> None:
    before = trio.current_time()
    assert short.frontswap.load(PageNumber(3)) is not None
    with pytest.raises(StoreRefused):
        await store(short, 3, pages.incompressible(99))
    assert MEMORY_PATIENCE_S <= trio.current_time() - before < MEMORY_PATIENCE_S + 0.2
    assert short.frontswap.load(PageNumber(3)) is None
    assert short.pending_io.counters.reserve_refused == 1
    assert short.frontswap.statistics().failed_stores == 1


async def test_where_others_have_nothing_to_give_a_store_is_refused_at_once(
    short: Device, feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    """As by a full pool in which no room can be made: the OOM killer can do its work."""
    feeder.is_poor = feeder.is_spent = True
    before = trio.current_time()
    with pytest.raises(StoreRefused):
        await store(short, 3, pages.incompressible(99))
    assert trio.current_time() == before
    assert short.frontswap.load(PageNumber(3)) is None
    assert short.cache.full_pool.counters.machine_limit_hit > 0
    assert short.cache.full_pool.counters.pool_limit_hit == 0


@pytest.mark.parametrize("spent", [True, False])
def test_the_last_dead_space_is_not_waited_for_where_others_have_nothing(
    short: Device, feeder: FakeFeeder, spent: bool
) -> None:
    """A machine that crawls on, a MiB at a time, is no better than one that stands still."""
    for page in range(0, 5000, 25):
        short.swapfile.punch(page * PAGE_SIZE, PAGE_SIZE)
    cleaning = short.writeback._cleaning
    assert cleaning.pays(thoroughly=True)
    assert not cleaning.pays()
    feeder.is_poor = feeder.is_spent = spent

    async def expects_room() -> bool:
        return short.writeback._maker.expects_room()

    assert trio.run(expects_room) is not spent


async def test_those_who_have_waited_for_so_long_are_refused_together(
    short: Device, feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    refused: dict[int, float] = {}
    began = trio.current_time()

    async def try_to(page: int) -> None:
        try:
            await store(short, page, pages.incompressible(page))
        except StoreRefused:
            refused[page] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        for page in range(4000, 4020):
            nursery.start_soon(try_to, page)
        await trio.sleep(MEMORY_PATIENCE_S / 2)
        nursery.start_soon(try_to, 4100)
        await trio.sleep(MEMORY_PATIENCE_S)
        assert set(refused) == set(range(4000, 4020)), "who came later has its own second"
        assert max(refused.values()) < MEMORY_PATIENCE_S + 0.3
        nursery.start_soon(try_to, 4101)
        await trio.sleep(MEMORY_PATIENCE_S / 2)
        feeder.deliver_frames(1)
    assert set(refused) == {*range(4000, 4020), 4100}
    assert short.frontswap.load(PageNumber(4101)) == pages.incompressible(4101)


async def test_loads_and_discards_go_on(
    short: Device, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, short, 4000, pages.incompressible(4000))
        await trio.lowlevel.checkpoint()
        assert short.swapfile.read(0, PAGE_SIZE) == pages.incompressible(0)
        short.swapfile.punch(0, 1200 * PAGE_SIZE)  # and so there is room
    assert short.frontswap.load(PageNumber(4000)) == pages.incompressible(4000)


async def test_a_partial_discard_is_not_waited_for_for_ever(
    short: Device, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(StoreRefused):
        await short.pending_io.punch(5 * PAGE_SIZE + 100, 50)


async def test_a_part_of_a_page_on_a_tier_is_not_waited_for_for_ever(
    feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    memory, tier = SharedMemory(TIERED), FakeTier(EXTENTS)
    former = Tiered(memory, tier)
    former.fill()
    await former.move_out()
    page = former.on_tier()[0]
    device = Device(memory.attach(), [tier], feeder=feeder, ready_frames=READY)
    before = trio.current_time()
    with trio.fail_after(60), pytest.raises(StoreRefused):
        await device.pending_io.write(page * PAGE_SIZE + 100, memoryview(b"x" * 50))
    assert trio.current_time() - before < MEMORY_PATIENCE_S + 0.2
    assert await device.pending_io.read(page * PAGE_SIZE, PAGE_SIZE) == former.expected[page]


async def test_stores_in_place_wait_for_their_cluster_before_they_are_written(
    feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    """Two of one cluster, which a full cache refuses; a third comes and goes meanwhile."""
    geometry = Geometry.for_size(32 * MIB, 32 * MIB)
    places = FakePlaceFile(geometry.page_count)
    state: SharedState = SharedMemory(geometry).attach()
    device = Device(state, feeder=feeder, ready_frames=READY, place_file=places)
    feeder.orders.clear()
    device.cache.pool_limit_bytes = MIB  # the cleaner's alone
    patience = set_patience(device.frontswap, None)
    assert patience
    ordered = patience
    set_patience(
        device.frontswap,
        lambda page, refusal: ordered(page, refusal) if isinstance(refusal, NoMemory) else None,
    )
    feeder.deliver()
    places.hold_writes = True
    first = 3 * 512
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, device, first, pages.incompressible(1))
        await trio.sleep(MEMORY_PATIENCE_S / 2)
        assert not places.writes, "nowhere to note that it is there"
        feeder.orders.rotate(1)  # the cluster first, as the thread does
        feeder.deliver(1)
        await trio.sleep(MEMORY_PATIENCE_S / 2)
        nursery.start_soon(store, device, first + 1, pages.incompressible(2))
        await trio.sleep(MEMORY_PATIENCE_S / 2)
        assert len(places.writes) == 2
        device.swapfile.write((first + 2) * PAGE_SIZE, memoryview(pages.filled(7)))
        device.swapfile.punch((first + 2) * PAGE_SIZE, PAGE_SIZE)  # its cluster is empty now
        places.let_go()
    assert [places.page(first + n) for n in (0, 1)] == [pages.incompressible(n) for n in (1, 2)]
    assert device.place is not None
    assert device.place.stored_pages == 2
    assert device.cache.slots._present[3]
    device.swapfile.punch(first * PAGE_SIZE, 2 * PAGE_SIZE)
    assert not device.cache.slots._present[3]


async def test_who_has_waited_for_room_since_waits_for_memory_anew(
    short: Device, feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    waits = Waits()
    ordered = MemoryOrdered(short.memory, short.room, "no memory")
    await short.pending_io._wait_for(ordered, waits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(short.pending_io._wait_for, NoRoom(short.room, PageNumber(1)), waits)
        await trio.sleep(MEMORY_PATIENCE_S + 1)
        short.room.wake()
    await short.pending_io._wait_for(ordered, waits)


async def test_the_shrinker_leaves_the_reserve(
    short: Device, feeder: FakeFeeder, autojump_clock: trio.testing.MockClock
) -> None:
    short.cache.keep_ready()
    feeder.deliver()
    short.writeback.shrinker_enabled = True
    short.writeback._under_pressure = lambda: True
    with trio.move_on_after(3):
        await short.writeback.run()
    assert short.cache.log.frames.warm == READY


class Machine:
    """A device on a machine of which a test says how it is."""

    def __init__(self, path: Path) -> None:
        self.levels = Levels()
        self.feeder = FeederThread(self.levels)
        geometry = Geometry.for_size(32 * MIB, 32 * MIB)
        state: SharedState = SharedMemory(geometry).attach()
        device = Device(state, feeder=self.feeder, ready_frames=READY)
        self.frames = device.cache.log.frames
        self.requests = 0
        self._queue = path / "inflight"
        self.queue("0 0")
        queue_file = os.open(self._queue, os.O_RDONLY)
        self.watch = MemoryWatch(
            self.feeder, device.cache, lambda: self.requests, queue_file=lambda: queue_file
        )
        self.feeder.start()
        while not (self.watch.is_reserved() and self.frames.warm == READY):
            os.sched_yield()

    def queue(self, text: str) -> None:
        self._queue.write_text(f"       {text}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.feeder.close()


async def _look(machine: Machine, seconds: float) -> int:
    """Look again and again; how many frames were given away."""
    machine.feeder.is_short = machine.levels.near
    before = machine.frames.given_back
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        machine.watch._look(machine.feeder)
        await trio.sleep(0.05)
    return machine.frames.given_back - before


async def test_frames_are_given_back_where_requests_wait_and_none_comes(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    machine.levels.near = True
    machine.queue("3 128")
    assert await _look(machine, 0.1) == 0, "not at once"
    assert await _look(machine, 2.0) == READY - 2, "two are kept"
    assert machine.watch.statistics().memory_stalls == 1
    assert machine.watch.statistics().reserve_given_back == READY - 2


@pytest.mark.parametrize("spent", [True, False])
async def test_frames_are_given_back_though_stores_get_none_while_others_are_poor(
    machine: Machine, autojump_clock: trio.testing.MockClock, spent: bool
) -> None:
    """Also where they may be left bare: then the feeder itself waits for memory."""
    machine.feeder.close()
    machine.feeder.eventfd = os.eventfd(0)  # to be closed once more
    machine.levels.near = machine.feeder.is_short = machine.feeder.is_poor = True
    machine.feeder.is_spent = spent
    machine.frames.ready = 2 * (READY - 1)
    assert machine.frames.take() != NO_FRAME
    assert machine.frames.is_short
    machine.queue("3 128")
    assert await _look(machine, 2.0) == READY - 1 - 2


def test_the_serving_thread_hurries_while_memory_is_short(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []
    monkeypatch.setattr(syscalls, "set_real_time", said.append)
    for short in (False, True, True, False, False):
        machine.watch._hurry(short)
    assert said == [True, True, False], "again and again: others end it too"


@pytest.mark.parametrize("poor", [True, False])
async def test_all_is_given_back_where_a_process_ended_while_others_are_poor(
    machine: Machine,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    poor: bool,
) -> None:
    """What it had here comes back later: the OOM killer is not to take others as well."""
    swap = [100 * MIB]
    monkeypatch.setattr(syscalls, "free_swap_bytes", lambda: swap[0])
    machine.watch._least_free_swap = swap[0]
    machine.levels.near = True
    monkeypatch.setattr(machine.feeder.watermarks, "others_are_poor", lambda: poor)
    machine.feeder.is_poor = poor  # as the feeder's thread says from its next look on
    assert await _look(machine, 0.1) == 0
    swap[0] += 9 * MIB
    assert await _look(machine, 0.04) == (READY - 2 if poor else 0)
    swap[0] -= 5 * MIB
    assert await _look(machine, 0.04) == 0
    assert machine.watch._least_free_swap == (104 if poor else 100) * MIB


async def test_a_feeder_that_waits_for_memory_itself_says_that_it_is_short(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    machine.feeder.close()
    machine.feeder._began = time.monotonic() - 1
    machine.queue("3 128")
    assert await _look(machine, 2.0) == READY - 2
    machine.feeder.eventfd = os.eventfd(0)  # to be closed once more


@pytest.mark.parametrize(
    "reason", ["no request waits", "there is memory", "requests come", "we hold it"]
)
async def test_no_frame_is_given_back_where_it_helps_nobody(
    machine: Machine, autojump_clock: trio.testing.MockClock, reason: str
) -> None:
    machine.levels.near = reason != "there is memory"
    machine.queue("0 0" if reason == "no request waits" else "0 7")
    machine.watch._holds_some = lambda: reason == "we hold it"
    given = 0
    for _ in range(20):
        machine.requests += reason == "requests come"
        given += await _look(machine, 0.1)
    assert given == 0


def test_watch_and_feeder_rest_while_memory_is_short(machine: Machine) -> None:
    machine.levels.near = True
    machine.frames._unmapped.append(0)  # what can wait
    looks = 0

    async def watch() -> None:
        with trio.move_on_after(0.3):
            await machine.watch.run()

    real = machine.watch._look

    def look(feeder: FeederThread) -> None:
        nonlocal looks
        looks += 1
        real(feeder)

    machine.watch._look = look  # type: ignore[method-assign]
    trio.run(watch)
    assert looks < 50
