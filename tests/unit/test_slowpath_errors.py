"""The slow path on a tier that returns nothing, too little or something else."""

from __future__ import annotations

import logging

import pytest

from fuseswap.errors import CorruptData
from fuseswap.units import PAGE_SIZE
from tests.fake_tier import FakeTier
from tests.tiered import Tiered


@pytest.mark.parametrize("at", [0, 3, 4, 1000])
async def test_corrupt_bytes_are_an_error_of_that_page_alone(
    tiered: Tiered, tier: FakeTier, at: int
) -> None:
    await tiered.move_out()
    tier.mangle = lambda found: found[:at] + bytes([found[at] ^ 1]) + found[at + 1 :]
    with pytest.raises(CorruptData):
        await tiered.read(0)
    assert tiered.cache.statistics().checksum_errors == 1
    tier.mangle = None
    await tiered.check()


@pytest.mark.parametrize(
    "length",
    [
        *(
            pytest.param(
                n,
            )
            for n in (0, 3)
        ),
        4,
        100,
    ],
)
async def test_short_data_is_corrupt_data(tiered: Tiered, tier: FakeTier, length: int) -> None:
    await tiered.move_out()
    tier.mangle = lambda found: found[:length]
    with pytest.raises(CorruptData):
        await tiered.read(0)


async def test_a_read_error_is_an_error_of_that_page_alone(
    tiered: Tiered, tier: FakeTier, caplog: pytest.LogCaptureFixture
) -> None:
    await tiered.move_out()
    tier.fail_reads = True
    with caplog.at_level(logging.ERROR), pytest.raises(CorruptData, match="page 0 cannot be read"):
        await tiered.read(0)
    assert tiered.writeback.statistics().read_errors == 1
    assert "page 0 cannot be read from the tier" in caplog.text
    tier.fail_reads = False
    await tiered.check()


async def test_one_bad_page_fails_a_read_of_many_once_all_are_back(
    tiered: Tiered, tier: FakeTier
) -> None:
    await tiered.move_out()
    tier.mangle = lambda found: bytes(len(found))
    with pytest.raises(CorruptData):
        await tiered.slowpath.read(0, 10 * PAGE_SIZE)
    assert tier.reads == []
    assert tiered.cache.statistics().checksum_errors == 10


async def test_without_a_tier_a_page_on_it_is_an_error(tiered: Tiered) -> None:
    on_tier = await tiered.move_out()
    again = Tiered(tiered.memory, None)
    with pytest.raises(CorruptData, match="there is none"):
        await again.read(on_tier[0])
