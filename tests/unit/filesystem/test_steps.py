"""What one step of the event loop does is bounded, whatever the size of the device.

Counted is work, and not time: functions that are called, and entries of columns that are read.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import METRICS, STATS, Tree, stat_inode
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.reclaim.scrub_request import ScrubRequest
from fuseswap.store.segment_entry import Mark
from fuseswap.store.victims import LAST_RESORT_BYTES
from fuseswap.units import segment_range
from tests.support.many_segments import calls_of, device_of_many, state_of_many

pytestmark = pytest.mark.slow

IN_MEMORY, ON_TIER = 3000, 30000
MOST_CALLS = 20000  # 4 ms or so


class Column:
    """A column of a table that counts how many of its entries are read."""

    def __init__(self, entries: array[int]) -> None:
        self.entries = entries
        self.read = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, at: Any) -> Any:
        found = self.entries[at]
        self.read += len(found) if isinstance(at, slice) else 1
        return found

    def __setitem__(self, at: int, value: int) -> None:
        self.entries[at] = value

    def __iter__(self) -> Iterator[int]:
        self.read += len(self.entries)
        return iter(self.entries)


@pytest.fixture(scope="module")
def many() -> Iterator[Device]:
    with device_of_many(IN_MEMORY, ON_TIER) as device:
        while device.frontswap.adopt_some():
            pass
        yield device


def test_each_step_of_an_adoption_is_bounded() -> None:
    with device_of_many(IN_MEMORY, ON_TIER) as device:
        steps = 0
        while device.frontswap.adopting:
            assert calls_of(device.frontswap.adopt_some) < MOST_CALLS
            steps += 1
        assert steps > 5
        first, last = device.cache.log.eviction_queue.first(IN_MEMORY)[:: IN_MEMORY - 1]
        assert (first, last) == (1, IN_MEMORY), "all stand in line, the oldest first"


def test_segments_without_a_page_are_freed_in_steps() -> None:
    with device_of_many(IN_MEMORY, ON_TIER) as device:
        table = device.cache.log.table
        for segment in segment_range(1, len(table.live)):
            table.live[segment] = 0
        while device.frontswap.adopting:
            assert calls_of(device.frontswap.adopt_some) < MOST_CALLS
        assert table.in_use == 0
        assert [entry.extents.in_use for entry in device.tiers] == [0]


def test_a_worker_attaches_without_a_look_at_each_segment() -> None:
    with state_of_many(100, ON_TIER) as state:
        devices = []
        assert calls_of(lambda: devices.append(Device(state, lazy=True))) < ON_TIER // 2
        devices.pop().cache.close()


def _statistics(device: Device) -> None:
    tree = Tree(device)
    tree.text(stat_inode("stored_pages"))
    tree.text(METRICS)
    tree.lookup(STATS, "codec_pages.lz4")
    tree.attributes(stat_inode("codec_pages.lz4"))
    tree.usage()


def _no_victim_on_tier(device: Device) -> None:
    for tier in (0, 7):
        device.writeback.cleaner.victims.choose_on_tier(tier, LAST_RESORT_BYTES)


def _no_segment_on_tier(device: Device) -> None:
    assert not device.mover.first_on(9)


def _writeback(device: Device) -> None:
    device.writeback.ask(ReclaimRequest.parse("all"))


def _recompress(device: Device) -> None:
    device.recompression.ask(ReclaimRequest.parse("all"))


def _scrub(device: Device) -> None:
    device.scrubber.ask(ScrubRequest.parse("all"))


@pytest.mark.parametrize(
    "act",
    [
        _statistics,
        _no_victim_on_tier,
        _no_segment_on_tier,
        _writeback,
        _recompress,
        _scrub,
    ],
)
def test_a_step_looks_at_a_bounded_number(
    many: Device, monkeypatch: pytest.MonkeyPatch, act: Callable[[Device], None]
) -> None:
    table, slots = many.cache.log.table, many.cache.slots
    columns = []
    for owner, name in (
        (table, "live"),
        (table, "live_bytes"),
        (table, "extra"),
        (slots, "used"),
    ):
        columns.append(Column(getattr(owner, name)))
        monkeypatch.setattr(owner, name, columns[-1])
    assert calls_of(lambda: act(many)) < MOST_CALLS
    assert sum(column.read for column in columns) < IN_MEMORY


def test_a_choice_in_memory_does_not_walk_over_what_is_on_a_tier(many: Device) -> None:
    for _ in range(14):  # once round
        assert calls_of(lambda: many.writeback.cleaner.victims.choose(0.5)) < MOST_CALLS


def test_where_all_were_tried_none_is_looked_at(many: Device) -> None:
    table = many.cache.log.table
    for segment in segment_range(1, IN_MEMORY + 1):
        table.mark(segment, Mark.TRIED)
    policy = many.recompression.policy
    assert calls_of(policy.any_for_room) < 50
    assert calls_of(policy.for_room) < 50
    assert not policy.any_for_room()
