"""The tier table: numbers, names, extents, and what is refused."""

from __future__ import annotations

import errno
from array import array

import pytest
import trio

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.tier_table import TierTable, names_in
from fuseswap.units import MAX_EXTENTS, MAX_TIERS, MIB, Location
from tests.support.fake_tier import FakeTier


class Kept:
    """What the header would keep."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}

    def keep(self, names: dict[int, str]) -> None:
        self.names = names

    def table(self) -> TierTable:
        return TierTable(self.names, self.keep)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def numbers(table: TierTable) -> dict[int, str | None]:
    return {entry.number: entry.tier.name if entry.tier else None for entry in table}


def test_numbers_are_given_in_order(kept: Kept) -> None:
    table = kept.table()
    assert [table.register(FakeTier(2, name)).number for name in ("a", "b", "c")] == [0, 1, 2]
    names = {number: text.split()[0] for number, text in kept.names.items()}
    assert names == {0: "a", 1: "b", 2: "c"}


def test_the_next_worker_gives_each_name_its_number_whatever_the_order(kept: Kept) -> None:
    table = kept.table()
    for name in ("a", "b", "c"):
        table.register(FakeTier(2, name))
    again = kept.table()
    assert again.missing() == names_in(kept.names) == {"a", "b", "c"}
    for name in ("c", "new", "a"):
        again.register(FakeTier(2, name))
    assert again.missing() == {"b"}
    assert numbers(again) == {2: "c", 3: "new", 0: "a"}
    again.adopt({1: array("I", [0]), 2: array("I", [1])})
    assert again.register(FakeTier(2, "b")).number == 1, "after its segments were found"
    assert {entry.number: entry.extents.in_use for entry in again} == {0: 0, 1: 1, 2: 1, 3: 0}


def test_a_number_is_not_used_again_while_a_location_names_it(kept: Kept) -> None:
    """The names were lost, so nothing else says whose number it is."""
    table = kept.table()
    table.adopt({0: array("I", [5]), 1: array("I", [0, 7])})
    assert table.register(FakeTier(2, "a")).number == 2
    table.release(Location(1, 0), 1)
    assert table.register(FakeTier(2, "b")).number == 3
    table.release(Location(1, 7), 1)
    assert table.register(FakeTier(2, "c")).number == 1


def test_a_tier_with_a_segment_cannot_go(kept: Kept) -> None:
    table = kept.table()
    tier = FakeTier(2, "a")
    to = table.register(tier).take()
    assert to == Location(0, 0)
    with pytest.raises(InvalidArgument, match=r"^tier 'a' has 1 segments; drain it first$"):
        table.unregister("a")
    table.release(to, 9)
    assert tier.released == [(0, 9)]
    table.unregister("a")
    assert (kept.names, list(table)) == ({}, [])
    with pytest.raises(InvalidArgument, match=r"^there is no tier 'a'$"):
        table.unregister("a")


def test_who_has_the_entry_of_a_tier_that_went_finds_no_extent_there(kept: Kept) -> None:
    """Writeback keeps it.  The number is given again, and so would its extents be, twice."""
    table = kept.table()
    old = table.register(FakeTier(2, "a"))
    extents = old.extents
    to = old.take()
    assert to is not None
    table.release(to, 1)
    table.unregister("a")
    assert old.take() is None
    assert extents.available == 0
    new = table.register(FakeTier(2, "a"))
    assert [new.take(), new.take()] == [Location(0, 0), Location(0, 1)]
    assert old.take() is None


def test_a_name_without_a_tier_can_go_when_its_last_segment_has(kept: Kept) -> None:
    kept.table().register(FakeTier(2, "a"))
    table = kept.table()
    table.adopt({0: array("I", [1])})
    with pytest.raises(InvalidArgument, match="drain it first"):
        table.unregister("a")
    table.release(Location(0, 1), 1)
    table.unregister("a")
    assert kept.names == {}


def test_what_is_refused_changes_nothing(kept: Kept) -> None:
    table = kept.table()
    table.register(FakeTier(MAX_EXTENTS, "a"))
    before = (numbers(table), kept.names)
    for tier, message in (
        (FakeTier(1, "a"), "there is a tier 'a' already"),
        (FakeTier(1, "A b"), "'A b' is no name of a tier"),
        (FakeTier(MAX_EXTENTS + 1, "b"), "tier 'b' is larger than 16T"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            table.register(tier)
        assert str(refused.value).startswith(message)
        assert "\n" not in str(refused.value)
    assert (numbers(table), kept.names) == before


def test_names_that_cannot_be_kept_are_refused() -> None:
    def keep(names: dict[int, str]) -> None:
        raise InvalidArgument("no room")

    table = TierTable({}, keep)
    with pytest.raises(InvalidArgument, match="no room"):
        table.register(FakeTier(1))
    assert list(table) == []


def test_there_are_256_at_most() -> None:
    table = TierTable()
    for number in range(MAX_TIERS):
        assert table.register(FakeTier(1, f"t{number}")).number == number
    with pytest.raises(InvalidArgument, match="there are 256 tiers already"):
        table.register(FakeTier(1, "more"))


def test_extents_are_those_of_their_tier(kept: Kept) -> None:
    table = kept.table()
    first, second = table.register(FakeTier(1, "a")), table.register(FakeTier(2, "b"))
    assert [first.take(), first.take()] == [Location(0, 0), None]
    assert [second.take() for _ in range(3)] == [Location(1, 0), Location(1, 1), None]


async def test_reads_and_writes_go_to_their_tier(kept: Kept) -> None:
    table = kept.table()
    tiers = [FakeTier(2, "a"), FakeTier(2, "b")]
    entries = [table.register(tier) for tier in tiers]
    segment = memoryview(bytes(range(256)) * 4096)
    to = Location(1, 1)
    ended: OSError | None = await await_callback(
        lambda done: table.begin_write(to, 7, segment, done)
    )
    assert ended is None
    assert (tiers[0].written, tiers[1].written) == ([], [1])
    found: bytes | OSError = await await_callback(
        lambda done: table.begin_read(to, 7, 300, 9, done)
    )
    assert found == bytes(segment[300:309])
    tiers[1].fail_writes = True
    failed: OSError | None = await await_callback(
        lambda done: table.begin_write(to, 8, segment, done)
    )
    assert failed is not None
    now = [entry.statistics() for entry in entries]
    assert [s.tier_written_bytes for s in now] == [0, MIB]
    assert [s.tier_read_bytes for s in now] == [0, 9]
    assert [s.tier_failed_writes for s in now] == [0, 1]


async def test_a_tier_that_is_not_there_is_an_error_later(kept: Kept) -> None:
    table = kept.table()
    table.adopt({3: array("I", [0])})
    for number in (3, 4):
        found: list[object] = []
        table.begin_read(Location(number, 0), 1, 0, 10, found.append)
        table.begin_write(Location(number, 0), 1, memoryview(b""), found.append)
        assert found == [], "never from inside"
        while len(found) < 2:
            await trio.lowlevel.checkpoint()
        assert all(isinstance(one, OSError) and one.errno == errno.ENXIO for one in found)
