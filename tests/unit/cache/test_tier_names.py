"""The names of tiers, in the header: twice, so that one copy is whole."""

from __future__ import annotations

import pytest

from fuseswap.cache.tier_names import TIER_NAMES_AT, TIER_NAMES_BYTES, TierNames
from fuseswap.errors import InvalidArgument
from tests.stores import SharedMemory

NAMES = {0: "backing_file", 7: "far", 255: "x"}
COPY_BYTES = TIER_NAMES_BYTES // 2


def names_of(memory: SharedMemory) -> TierNames:
    """What the next worker sees."""
    return TierNames(memory.regions()["header"])


def test_they_outlive_a_worker(memory: SharedMemory) -> None:
    assert names_of(memory).read() == {}
    names_of(memory).write(NAMES)
    assert names_of(memory).read() == NAMES
    names_of(memory).write({7: "far"})
    assert names_of(memory).read() == {7: "far"}


def test_they_touch_nothing_else(memory: SharedMemory) -> None:
    state = memory.attach()
    state.parameters, state.peak_bytes = {"compressor": "zstd"}, 99
    header = memory.regions()["header"].buffer
    before = bytes(header)
    names_of(memory).write(NAMES)
    end = TIER_NAMES_AT + TIER_NAMES_BYTES
    assert bytes(header[:TIER_NAMES_AT]) == before[:TIER_NAMES_AT]
    assert bytes(header[end:]) == before[end:]
    assert memory.attach().parameters == {"compressor": "zstd"}


@pytest.mark.parametrize("copy", [0, 1])
def test_one_copy_may_be_damaged_beyond_repair(memory: SharedMemory, copy: int) -> None:
    names_of(memory).write(NAMES)
    at = TIER_NAMES_AT + copy * COPY_BYTES
    memory.regions()["header"].buffer[at : at + 30] = b"\x5a" * 30
    assert names_of(memory).read() == NAMES


def test_both_damaged_are_no_names(memory: SharedMemory, caplog: pytest.LogCaptureFixture) -> None:
    names_of(memory).write(NAMES)
    header = memory.regions()["header"].buffer
    for at in (TIER_NAMES_AT, TIER_NAMES_AT + COPY_BYTES):
        header[at : at + 30] = b"\x5a" * 30
    assert names_of(memory).read() == {}
    assert "corrupt" in caplog.text


def test_too_many_are_refused_and_the_old_ones_stay(memory: SharedMemory) -> None:
    names_of(memory).write(NAMES)
    with pytest.raises(InvalidArgument, match="bytes of names of tiers"):
        names_of(memory).write({number: f"tier{number}" for number in range(20)})
    assert names_of(memory).read() == NAMES
