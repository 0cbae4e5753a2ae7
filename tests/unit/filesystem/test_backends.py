"""Backends that come while the swap is on, and their list over a worker's death."""

from __future__ import annotations

import pytest

from fuseswap.errors import CorruptData, InvalidArgument, StoreRefused
from fuseswap.filesystem.explain import explain
from fuseswap.filesystem.parameters import find_parameter, restore_parameters, set_parameter
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.chained_backends import SLOTS, Chained
from tests.support.memory_stores import SharedMemory
from tests.support.raw_memories import RawSlots

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
