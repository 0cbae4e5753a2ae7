"""A dictionary that a page on the tier needs stays, whichever worker asks, and goes in time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.dictionary import Dictionary
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.slot_word import offset_of
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.page_families import compress_with, dictionary_for
from tests.support.recompressed_devices import pass_time
from tests.support.tiered_devices import Tiered

OLD = range(60)
OTHERS = range(1000, 1060)
LARGE = pages.incompressible(1) * 8 + dictionary_for(0)  # its memory is worth a read


async def prepare(worker: Tiered) -> tuple[Dictionary, Dictionary, Dictionary]:
    """One segment on the tier needs the first two; no page needs the third; a fourth is in use."""
    old = await compress_with(worker, LARGE, 0, OLD)
    other = await compress_with(worker, dictionary_for(1), 1, OTHERS)
    await write_back(worker)
    assert worker.on_tier() == [*OLD, *OTHERS]
    assert worker.segment_of(OLD[0]) == worker.segment_of(OTHERS[0])
    unused = worker.cache.dictionaries.add(dictionary_for(2))
    await compress_with(worker, dictionary_for(0) + b"more", 0, range(2000, 2010))
    assert unused is not None
    return old, other, unused


async def write_back(worker: Tiered) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.writeback.run)
        worker.writeback.ask(ReclaimRequest.parse("all"))
        await pass_time(2)
        nursery.cancel_scope.cancel()


async def look(worker: Tiered, *, retire: bool = False) -> None:
    """The task looks for some seconds, and thinks of retiring dictionaries or not."""
    if retire:
        worker.device.recompression.retirement._next_look = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.recompression.run)
        await pass_time(8)
        nursery.cancel_scope.cancel()


def next_worker(worker: Tiered) -> Tiered:
    following = Tiered(worker.memory, worker.tier)
    following.expected = worker.expected
    return following


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_is_needed_there_stays_and_what_is_not_goes(
    tiered: Tiered, mock_clock: MockClock, restarts: bool
) -> None:
    old, other, unused = await prepare(tiered)
    worker = next_worker(tiered) if restarts else tiered
    await look(worker)
    left = worker.cache.dictionaries.all
    assert {old, other} < set(left)
    assert unused not in left
    await worker.check()


@pytest.mark.parametrize("restarts", [False, True])
async def test_it_stays_while_its_segment_may_need_it(
    tiered: Tiered, mock_clock: MockClock, restarts: bool
) -> None:
    old, other, _ = await prepare(tiered)
    worker = next_worker(tiered) if restarts else tiered
    worker.discard(OTHERS[0], len(OTHERS))
    worker.discard(OLD[0], len(OLD) - 1)
    await look(worker)
    assert {old, other} < set(worker.cache.dictionaries.all), "one page is left, of either"
    await worker.check()
    worker.discard(OLD[-1])
    await look(worker)
    assert not {old, other} & set(worker.cache.dictionaries.all)
    await worker.check()


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_is_read_to_retire_one_tells_which_are_needed(
    tiered: Tiered, mock_clock: MockClock, restarts: bool
) -> None:
    old, other, _ = await prepare(tiered)
    worker = next_worker(tiered) if restarts else tiered
    segment = worker.segment_of(OLD[0])
    await look(worker, retire=True)
    left = worker.cache.dictionaries.all
    assert old not in left
    assert other in left
    if worker.log.table.is_live(segment):
        assert worker.log.dictionary_use.of(segment) == {other.number: len(OTHERS)}
        assert worker.log.table.dictionaries_of(segment) == [other.number]
    await worker.check()
    following = next_worker(worker)
    await look(following)
    assert other in following.cache.dictionaries.all
    await following.check()


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_number_that_is_read_wrong_loses_no_dictionary(
    tiered: Tiered, tier: FakeTier, mock_clock: MockClock, restarts: bool
) -> None:
    """The read of all objects of one says that they need the other; the next read is right."""
    old, other, _ = await prepare(tiered)
    worker = next_worker(tiered) if restarts else tiered
    worker.discard(OLD[0], len(OLD) - 1)
    word = worker.cache.slots.get(PageNumber(OLD[-1]))
    at = offset_of(word) + CHECK_BYTES

    def mangle(found: bytes) -> bytes:
        if len(found) <= at:  # an object, and not the segment
            return found
        return found[:at] + bytes([other.number]) + found[at + 1 :]

    tier.mangle = mangle
    await look(worker, retire=True)
    tier.mangle = None
    assert old in worker.cache.dictionaries.all
    assert await worker.read(OLD[-1]) == worker.expected[OLD[-1]]
    await worker.check()


async def test_a_bit_of_the_entry_that_turns_over_loses_no_dictionary(
    tiered: Tiered, mock_clock: MockClock
) -> None:
    old, other, _ = await prepare(tiered)
    at = tiered.segment_of(OLD[0]) * 4 + 3
    right = tiered.log.table.entries[at]
    for bit in range(32, 64):
        tiered.log.table.entries[at] = right ^ 1 << bit
        worker = next_worker(tiered)
        worker.device.recompression.dictionaries.drop_unused()
        assert {old, other} < set(worker.cache.dictionaries.all)
    await worker.check()
