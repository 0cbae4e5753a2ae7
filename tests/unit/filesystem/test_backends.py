"""Backends that come, shrink and go while the swap is on, and their list over a worker's death."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData, InvalidArgument, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.explain import explain
from fuseswap.filesystem.parameters import find_parameter, restore_parameters, set_parameter
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory
from tests.support.raw_memories import RawSlots

SLOTS = 40


@pytest.fixture
def raws() -> Iterator[dict[str, RawSlots]]:
    raws = {name: RawSlots(SLOTS) for name in ("raw0", "raw1")}
    yield raws
    for raw in raws.values():
        raw.close()


class Chained:
    """A worker with the memory of two raw backends, and what it should hold."""

    def __init__(self, memory: SharedMemory, raws: dict[str, RawSlots]) -> None:
        self.device = Device(
            memory.attach(), memories={name: raw.map() for name, raw in raws.items()}
        )
        self.frontswap = self.device.frontswap

    def set(self, text: str) -> None:
        set_parameter(self.device, find_parameter("backends"), text)

    def fill(self, count: int) -> None:
        for page in range(count):
            self.frontswap.store(PageNumber(page), pages.incompressible(page))

    def check(self, count: int) -> None:
        for page in range(count):
            assert self.frontswap.load(PageNumber(page)) == pages.incompressible(page), page

    def names(self) -> list[str]:
        return [backend.name for backend in self.frontswap.links.backends]

    def held(self) -> dict[str, int]:
        return {backend.name: backend.stored_pages for backend in self.frontswap.links.backends}

    def progress(self) -> str:
        return self.device.backends.describe().splitlines()[-1]


@pytest.fixture
def worker(memory: SharedMemory, raws: dict[str, RawSlots]) -> Chained:
    return Chained(memory, raws)


@asynccontextmanager
async def running(worker: Chained) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.backends.run)
        yield
        nursery.cancel_scope.cancel()


def carry_out(worker: Chained, order: str) -> str:
    """Give an order and wait for its end; the progress then."""

    async def main() -> None:
        async with running(worker):
            worker.set(order)
            with trio.fail_after(60):
                while worker.progress().endswith("pages") and not ended(worker):
                    await trio.sleep(0.1)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return worker.progress()


def ended(worker: Chained) -> bool:
    draining = worker.device.backends._draining
    return draining is not None and (draining.is_done or bool(draining.error))


# -- add ---------------------------------------------------------------------------------


def test_the_newest_is_asked_first(worker: Chained) -> None:
    worker.fill(3)
    worker.set("add=raw0 kind=raw")
    worker.set("add=raw1")
    assert worker.names() == ["raw1", "raw0", "cache"]
    worker.frontswap.store(PageNumber(7), pages.compressible(7))
    assert worker.held() == {"raw1": 1, "raw0": 0, "cache": 3}
    worker.check(3)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("first", ["raw1", "raw0", "cache"]),
        ("0", ["raw1", "raw0", "cache"]),
        ("1", ["raw0", "raw1", "cache"]),
        ("2", ["raw0", "cache", "raw1"]),
        ("last", ["raw0", "cache", "raw1"]),
    ],
)
def test_or_where_it_is_said_and_so_for_the_next_worker(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots], order: str, names: list[str]
) -> None:
    worker.set("add=raw0 order=first")
    worker.set(f"add=raw1 order={order}")
    assert worker.names() == names
    assert Chained(memory, raws).names() == names


def test_pages_outlive_the_worker(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots]
) -> None:
    worker.set("add=raw0")
    worker.fill(60)
    assert worker.held() == {"raw0": SLOTS, "cache": 60 - SLOTS}
    again = Chained(memory, raws)
    assert again.held() == worker.held()
    again.check(60)
    again.frontswap.invalidate_page(PageNumber(3))
    again.frontswap.store(PageNumber(70), pages.filled(1))
    assert again.held() == worker.held()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "add=",
        "add=raw2",
        "add=Raw0",
        "add=raw0 kind=zip",
        "add=raw0 order=2",
        "add=raw0 order=-1",
        "add=raw0 order=middle",
        "add=raw0 size=1M",
        "add=raw0 colour=red",
        "add=cache",
        "remove=raw0",
        "remove=cache",
        "remove=raw0 to=1M",
        "shrink=raw0 to=0",
        "shrink=cache to=1M",
        "shrink=cache",
        "list",
    ],
)
def test_an_order_that_can_not_be_carried_out_changes_nothing(worker: Chained, text: str) -> None:
    before = worker.device.backends.describe()
    with pytest.raises(InvalidArgument):
        worker.set(text)
    assert worker.device.backends.describe() == before
    assert worker.device.state.parameters == {}


def test_a_name_is_taken_once(worker: Chained) -> None:
    worker.set("add=raw0")
    with pytest.raises(InvalidArgument, match="already"):
        worker.set("add=raw0")


def test_other_parameters_are_restored_beside_it(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots]
) -> None:
    worker.set("add=raw0")
    set_parameter(worker.device, find_parameter("dedup"), "off")
    again = Chained(memory, raws)
    restore_parameters(again.device, again.device.state.parameters, strictly=True)
    assert again.device.cache.dedup.switch == "off"
    assert again.names() == ["raw0", "cache"]


def test_without_its_memory_its_pages_are_errors_and_its_number_is_not_given_again(
    worker: Chained,
    memory: SharedMemory,
    raws: dict[str, RawSlots],
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker.set("add=raw0")
    worker.fill(1)
    again = Chained(memory, {"raw1": raws["raw1"]})
    assert "memory of backend 'raw0' is gone" in caplog.text
    with pytest.raises(CorruptData):
        again.frontswap.load(PageNumber(0))
    again.set("add=raw1")
    assert {backend.number for backend in again.frontswap.links.backends} == {None, 2}
    assert "raw0 kind=raw number=1 state=lost" in again.device.backends.describe()
    with pytest.raises(InvalidArgument):
        again.set("add=raw0")
    assert Chained(memory, raws).names() == ["raw1", "cache", "raw0"]


def test_memory_in_use_is_not_withdrawn(worker: Chained) -> None:
    worker.set("add=raw0")
    with pytest.raises(InvalidArgument, match="remove it first"):
        worker.device.backends.withdraw("raw0")
    worker.device.backends.withdraw("raw1")
    with pytest.raises(InvalidArgument, match="no memory"):
        worker.set("add=raw1")


# -- remove ------------------------------------------------------------------------------


def test_pages_go_to_the_others_then_it_goes(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots]
) -> None:
    worker.set("add=raw0")
    worker.fill(60)
    assert carry_out(worker, "remove=raw0") == "remove=raw0: 40 of 40 pages"
    assert worker.held() == {"cache": 60}
    worker.check(60)
    assert raws["raw0"].allocated_bytes() == 0
    assert "raw0 kind=raw" in worker.device.backends.describe(), "it may be added again"
    again = Chained(memory, raws)
    assert again.names() == ["cache"]
    again.check(60)


def test_it_may_come_again(worker: Chained) -> None:
    for _ in range(3):
        worker.set("add=raw0")
        worker.fill(50)
        assert worker.held() == {"raw0": 40, "cache": 10}
        carry_out(worker, "remove=raw0")
        worker.check(50)


def test_where_pages_do_not_fit_it_stays_and_says_how_many(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.fill(40)
    worker.device.cache.encoder.non_same_filled_pages_enabled = False
    progress = carry_out(worker, "remove=raw0")
    assert progress.startswith("remove=raw0: failed: 40 pages find no room elsewhere")
    assert worker.held() == {"raw0": 40, "cache": 0}
    worker.check(40)
    worker.frontswap.invalidate_page(PageNumber(0))
    worker.frontswap.store(PageNumber(50), pages.filled(3))
    assert worker.held() == {"raw0": 40, "cache": 0}, "it takes pages again"


async def test_the_last_that_would_take_a_page_does_not_go(worker: Chained) -> None:
    """Stores go on meanwhile: what is refused is refused, nothing else."""
    worker.set("add=raw0")
    worker.fill(20)
    worker.device.cache.encoder.non_same_filled_pages_enabled = False
    async with running(worker):
        worker.set("remove=raw0")
        await wait_all_tasks_blocked()
    worker.check(20)
    worker.frontswap.store(PageNumber(21), pages.incompressible(21))
    assert worker.held() == {"raw0": 21, "cache": 0}


async def test_one_order_at_a_time(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.set("add=raw1")
    worker.fill(80)
    async with running(worker):
        worker.set("remove=raw0")
        with pytest.raises(InvalidArgument, match="is under way"):
            worker.set("remove=raw1")
        await wait_all_tasks_blocked()
        worker.set("remove=raw1")
        await wait_all_tasks_blocked()
    assert worker.held() == {"cache": 80}
    worker.check(80)


async def test_serving_goes_on_while_it_is_drained(worker: Chained) -> None:
    """Others get their turn between a few pages; what they store goes elsewhere."""
    worker.set("add=raw0")
    worker.fill(40)
    turns = 0
    async with running(worker):
        worker.set("remove=raw0")
        while not ended(worker):
            await trio.lowlevel.checkpoint()
            worker.frontswap.store(PageNumber(turns), pages.incompressible(turns))
            turns += 1
    assert turns >= 3
    worker.check(40)
    assert worker.held() == {"cache": 40}


def test_a_removal_is_forgotten_with_its_worker(
    worker: Chained, memory: SharedMemory, raws: dict[str, RawSlots]
) -> None:
    worker.set("add=raw0")
    worker.fill(40)

    async def main() -> None:
        async with running(worker):
            worker.set("remove=raw0")
            while worker.held()["raw0"] == 40:
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert 0 < worker.held()["raw0"] < 40
    again = Chained(memory, raws)
    assert again.held() == worker.held()
    again.check(40)
    assert "remove" not in again.progress()


def test_a_corrupt_page_does_not_keep_it(worker: Chained, raws: dict[str, RawSlots]) -> None:
    worker.set("add=raw0")
    worker.fill(40)
    slot = explain(worker.device, PageNumber(5)).slot
    assert slot is not None
    raws["raw0"].map().buffer[PAGE_SIZE + slot * PAGE_SIZE] ^= 1
    assert explain(worker.device, PageNumber(5)).checksum == "corrupt"
    assert carry_out(worker, "remove=raw0") == "remove=raw0: 40 of 40 pages"
    with pytest.raises(CorruptData):
        worker.frontswap.load(PageNumber(5))
    worker.frontswap.store(PageNumber(5), pages.incompressible(5))
    worker.check(40)


# -- shrink ------------------------------------------------------------------------------


def test_pages_leave_for_those_behind_it(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.set("add=raw1")
    worker.fill(40)
    assert worker.held() == {"raw1": 40, "raw0": 0, "cache": 0}
    assert carry_out(worker, f"shrink=raw1 to={10 * PAGE_SIZE}") == "shrink=raw1: 30 of 30 pages"
    assert worker.held() == {"raw1": 10, "raw0": 30, "cache": 0}
    worker.check(40)
    worker.frontswap.store(PageNumber(50), pages.filled(3))
    assert worker.held()["raw1"] == 11


def test_nobody_behind_it_is_an_error(worker: Chained) -> None:
    worker.set("add=raw0 order=last")
    with pytest.raises(InvalidArgument, match="no backend can have"):
        worker.set("shrink=raw0 to=0")


def test_its_counters_and_its_memory_are_shown(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.fill(3)
    numbers = worker.device.statistics()
    assert numbers["curr_pages", ("raw0",)] == 3
    assert numbers["backend_stores", ("raw0",)] == 3
    assert numbers["mem_backends"] == SLOTS * PAGE_SIZE


def test_a_page_of_it_is_explained(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.fill(2)
    found = explain(worker.device, PageNumber(1))
    assert (found.where, found.backend, found.slot) == ("backend raw0", "raw0", 1)
    assert (found.codec, found.stored_bytes, found.checksum) == ("raw", PAGE_SIZE, "ok")


# -- the area goes -----------------------------------------------------------------------


def test_a_discard_of_the_whole_area_is_told(worker: Chained) -> None:
    """As swapon does it, which leaves page 0 alone; and then the first slots are taken again."""
    worker.set("add=raw0")
    worker.fill(30)
    count = worker.frontswap.slots.page_count
    worker.frontswap.invalidate_area(PageNumber(1), count - 1)
    assert worker.held() == {"raw0": 1, "cache": 0}
    worker.frontswap.store(PageNumber(9), pages.incompressible(9))
    assert explain(worker.device, PageNumber(9)).slot == 1


def test_a_refusal_of_raw_goes_on_to_the_cache(worker: Chained) -> None:
    worker.set("add=raw0")
    worker.fill(41)
    worker.device.cache.encoder.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        worker.frontswap.store(PageNumber(42), pages.incompressible(42))
    worker.check(41)


async def test_a_page_that_moves_leaves_nothing_behind(worker: Chained) -> None:
    """The collector is off in a worker: a cycle would stay for each page."""
    worker.set("add=raw0")
    async with running(worker):
        await wait_all_tasks_blocked()
        for refuses in (True, False):
            worker.device.cache.encoder.non_same_filled_pages_enabled = True
            worker.fill(SLOTS)
            worker.device.cache.encoder.non_same_filled_pages_enabled = not refuses
            gc.collect()
            gc.disable()
            try:
                worker.set("remove=raw0")
                await wait_all_tasks_blocked()
                assert gc.collect() < SLOTS // 2
            finally:
                gc.enable()
            assert worker.held()["cache"] == (0 if refuses else SLOTS)
