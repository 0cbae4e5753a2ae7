"""The slow path on a tier that returns nothing, too little or something else."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import CorruptData
from fuseswap.tiers.tier import Read
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import StoredObject
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("at", [0, 3, 4, 1000])
async def test_corrupt_bytes_are_an_error_of_that_page_alone(
    tiered: Tiered, tier: FakeTier, at: int
) -> None:
    await tiered.move_out()
    tier.mangle = lambda found: found[:at] + bytes([found[at] ^ 1]) + found[at + 1 :]
    with pytest.raises(CorruptData):
        await tiered.read(0)
    assert tiered.cache.reader.counters.checksum_errors == 1
    tier.mangle = None
    await tiered.check()


@pytest.mark.parametrize("length", [0, 3, 4, 100])
async def test_short_data_is_corrupt_data(tiered: Tiered, tier: FakeTier, length: int) -> None:
    await tiered.move_out()
    tier.mangle = lambda found: found[:length]
    with pytest.raises(CorruptData):
        await tiered.read(0)


async def test_a_read_error_is_an_error_of_that_page_alone(
    tiered: Tiered,
    tier: FakeTier,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    await tiered.move_out()
    tier.fail_reads = True
    start = trio.current_time()
    with caplog.at_level(logging.ERROR), pytest.raises(CorruptData, match="page 0 cannot be read"):
        await tiered.read(0)
    assert trio.current_time() - start == pytest.approx(0.11)
    now = tiered.writeback.statistics()
    assert (now.tier_read_retries, now.tier_read_errors) == (2, 1)
    assert tiered.cache.reader.counters.checksum_errors == 0
    assert "cannot be read" in caplog.text
    tier.fail_reads = False
    await tiered.check()


def wrong_for(reads: int) -> Callable[[bytes], bytes]:
    """A bit is wrong in each of the first ``reads`` answers."""
    left = reads

    def mangle(found: bytes) -> bytes:
        nonlocal left
        left -= 1
        return found if left < 0 else bytes([found[0] ^ 4]) + found[1:]

    return mangle


async def test_bytes_that_are_wrong_once_are_read_again(tiered: Tiered, tier: FakeTier) -> None:
    await tiered.move_out()
    tier.mangle = wrong_for(1)
    assert await tiered.read(0) == tiered.expected[0]
    assert tiered.writeback.statistics().tier_read_retries == 1
    assert tiered.cache.reader.counters.checksum_errors == 0


async def test_bytes_that_are_wrong_twice_are_an_error(tiered: Tiered, tier: FakeTier) -> None:
    await tiered.move_out()
    tier.mangle = wrong_for(2)
    with pytest.raises(CorruptData):
        await tiered.read(0)
    assert tiered.writeback.statistics().tier_read_retries == 1
    assert tiered.cache.reader.counters.checksum_errors == 1
    await tiered.check()


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_read_that_fails_is_made_again(
    tiered: Tiered,
    tier: FakeTier,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    failures: int,
) -> None:
    await tiered.move_out()
    tier.hold_reads = True
    found = []

    async def read() -> None:
        found.append(await tiered.read(0))

    nursery.start_soon(read)
    for _ in range(failures):
        await wait_all_tasks_blocked()
        tier.reads[0].fail()
        await trio.sleep(0.2)
    tier.reads[0].finish()
    await wait_all_tasks_blocked()
    assert found == [tiered.expected[0]]
    now = tiered.writeback.statistics()
    assert (now.tier_read_retries, now.tier_read_errors) == (failures, 0)


async def test_a_page_that_is_stored_anew_before_the_next_try(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    await tiered.move_out()
    tier.fail_reads = True
    found = []

    async def read() -> None:
        found.append(await tiered.read(0))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    tiered.store(0, b"anew" * 1024)
    tier.fail_reads = False
    mock_clock.jump(0.02)
    await wait_all_tasks_blocked()
    assert found == [b"anew" * 1024]
    assert tiered.cache.reader.counters.checksum_errors == 0


async def test_one_bad_page_fails_a_read_of_many_once_all_are_back(
    tiered: Tiered, tier: FakeTier
) -> None:
    await tiered.move_out()
    tier.mangle = lambda found: bytes(len(found))
    with pytest.raises(CorruptData):
        await tiered.pending_io.read(0, 10 * PAGE_SIZE)
    assert tier.reads == []
    assert tiered.cache.reader.counters.checksum_errors == 10


async def test_without_a_tier_a_page_on_it_is_an_error(tiered: Tiered) -> None:
    on_tier = await tiered.move_out()
    again = Tiered(tiered.memory, None)
    with pytest.raises(CorruptData, match="tier 0 is not there"):
        await again.read(on_tier[0])


async def test_one_page_that_cannot_be_read_among_its_neighbours(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    """They are read at once; the answer is an error; each is asked for alone."""
    await tiered.move_out()
    bad = StoredObject.of(3, tiered.cache.slots.get(PageNumber(3)))
    tier.is_bad = lambda offset, length: offset <= bad.offset < offset + length
    found = [await tiered.read(page) for page in (2, 4)]
    assert found == [tiered.expected[2], tiered.expected[4]]
    assert tiered.writeback.statistics().tier_read_errors == 0
    with pytest.raises(CorruptData):
        await tiered.pending_io.read(2 * PAGE_SIZE, 3 * PAGE_SIZE)
    now = tiered.writeback.statistics()
    assert now.tier_read_errors == 1, "page 3, and no other"
    tier.is_bad = None
    await tiered.check()


async def test_neighbours_that_could_not_be_read_at_once_are_good_alone(
    tiered: Tiered, tier: FakeTier
) -> None:
    await tiered.move_out()
    tier.is_bad = lambda offset, length: length > PAGE_SIZE + 100
    found = await tiered.pending_io.read(2 * PAGE_SIZE, 3 * PAGE_SIZE)
    assert found == b"".join(tiered.expected[page] for page in (2, 3, 4))
    now = tiered.writeback.statistics()
    assert (now.tier_read_retries, now.tier_read_errors) == (3, 0)


async def test_bytes_that_do_not_verify_are_read_once_more_and_at_once(
    tiered: Tiered, tier: FakeTier
) -> None:
    """As an encrypted tier says it; thousands of such pages must not take a pause each."""
    on_tier = await tiered.move_out()
    begin = tier.begin_read
    asked: list[int] = []

    def wrong(extent: int, generation: int, offset: int, length: int, done: Read) -> None:
        asked.append(offset)
        error = OSError(errno.EBADMSG, "does not verify")
        begin(extent, generation, offset, length, lambda found: done(error))

    tier.begin_read = wrong  # type: ignore[method-assign]
    began = trio.current_time()
    with pytest.raises(CorruptData, match="does not verify"):
        await tiered.read(on_tier[0])
    assert len(asked) == 2
    assert trio.current_time() - began < 0.01
    assert (tiered.device.reader.retries, tiered.device.reader.errors) == (1, 1)
