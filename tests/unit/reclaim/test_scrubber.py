"""A scrub finds each page that is bad, wherever it is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.errors import InvalidArgument
from fuseswap.reclaim.scrub_request import ScrubRequest
from fuseswap.store.geometry import Geometry
from fuseswap.store.slot_word import is_object, offset_of, segment_of
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.units import MIB, PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.memory_stores import SharedMemory
from tests.support.moving_segments import Moved
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered, extent_of


async def scrub(worker: Tiered, text: str = "all", seconds: float = 60) -> ScrubRequest:
    request = ScrubRequest.parse(text)
    worker.device.scrubber.ask(request)
    with trio.move_on_after(seconds):
        await worker.device.scrubber.run()
    return request


def spoil(worker: Tiered, tier: FakeTier | None, page: int) -> None:
    """A byte of the payload of ``page``, in memory or on ``tier``."""
    word = worker.cache.slots.get(PageNumber(page))
    assert is_object(word)
    at = offset_of(word) + CHECK_BYTES
    if tier is not None:
        tier.extents[extent_of(worker.log, segment_of(word))][at] ^= 1
    else:
        worker.device.state.arena.buffer[worker.log.table.bases[segment_of(word)] + at] ^= 1


async def test_where_nothing_is_bad_nothing_is_said(
    tiered: Tiered, autojump_clock: MockClock
) -> None:
    await tiered.move_out()
    request = await scrub(tiered)
    assert (request.bad, request.told, request.done) == (0, [], request.total)
    assert tiered.device.scrubber.counters.scrubbed_pages == len(tiered.expected)
    assert str(request).startswith(f"all: {request.total} of {request.total} parts, 0 bad pages")


async def test_each_bad_page_is_named_with_its_place(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    far = await tiered.move_out()
    near = list(range(3500, 3510))
    for page in near:
        tiered.store(page)
    spoil(tiered, tier, far[3])
    spoil(tiered, None, near[5])
    request = await scrub(tiered)
    assert sorted(request.told) == sorted(
        [
            f"page {near[5]}: in memory, checksum mismatch",
            f"page {far[3]}: tier fake, segment {tiered.segment_of(far[3])}: checksum mismatch",
        ]
    )
    assert tiered.device.scrubber.counters.scrub_bad_pages == request.bad == 2


async def test_every_page_of_a_shared_object_is_named(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    tiered.device.cache.dedup.set_switch("on")
    data = pages.nearly_incompressible(99_999, 3900)
    for page in (3000, 3001, 3002):
        tiered.store(page, data)
    far = await tiered.move_out()
    assert {3000, 3001, 3002} <= set(far)
    spoil(tiered, tier, 3000)
    request = await scrub(tiered)
    assert [line.split(":")[0] for line in sorted(request.told)] == [
        "page 3000",
        "page 3001",
        "page 3002",
    ]


async def test_a_segment_that_cannot_be_read_names_all_its_pages(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    far = await tiered.move_out()
    tier.fail_reads = True
    before = tier.reads_begun
    request = await scrub(tiered)
    assert request.bad == len(far)
    assert all("it can't be read" in line for line in request.told)
    segments = len(tier.extents)
    assert tier.reads_begun - before == 3 * segments, "each may take long to fail"


async def test_what_is_wrong_once_is_not_bad(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    await tiered.move_out()

    def once(found: bytes) -> bytes:
        tier.mangle = None
        return bytes(len(found))

    tier.mangle = once
    assert (await scrub(tiered)).bad == 0


async def test_pages_that_change_meanwhile_are_not_bad(
    tiered: Tiered, tier: FakeTier, autojump_clock: MockClock
) -> None:
    far = await tiered.move_out()
    tier.hold_reads = True
    request = ScrubRequest.parse("tier=fake")
    tiered.device.scrubber.ask(request)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tiered.device.scrubber.run)
        await trio.sleep(1)
        tier.mangle = lambda found: bytes(len(found))
        for page in list(far):
            tiered.discard(page)
        tier.hold_reads = False
        for read in list(tier.reads):
            read.finish()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert (request.bad, request.done) == (0, request.total)


async def test_pages_in_their_places_are_looked_at(
    placed: Tiered, autojump_clock: MockClock
) -> None:
    await placed.move_out()
    there = placed.in_place()
    backing = placed.tier
    assert backing is not None
    assert not isinstance(backing, FakeTier)
    backing.bytes[there[2] * PAGE_SIZE] ^= 1
    request = await scrub(placed)
    assert len(request.told) == request.bad == 1
    assert request.told[0].startswith(f"page {there[2]}: ")


async def test_one_tier_alone_at_a_rate(moved: Moved, autojump_clock: MockClock) -> None:
    await moved.prepare()
    worker = moved.worker
    count = moved.in_use[0]
    began = trio.current_time()
    request = ScrubRequest.parse(f"tier=fake rate={MIB // 2}")
    worker.device.scrubber.ask(request)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.scrubber.run)
        while request.done < request.total:
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert request.total == count
    assert 2 * count <= trio.current_time() - began < 2 * count + 1
    assert (await scrub(worker, "tier=second")).bad == 0


async def test_another_request_takes_its_place(moved: Moved, autojump_clock: MockClock) -> None:
    await moved.prepare()
    scrubber = moved.worker.device.scrubber
    slow = ScrubRequest.parse("tier=fake rate=1K")
    scrubber.ask(slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrubber.run)
        await trio.sleep(0.5)
        fast = ScrubRequest.parse("all")
        scrubber.ask(fast)
        await trio.sleep(2000)
        nursery.cancel_scope.cancel()
    assert slow.done < slow.total
    assert fast.done == fast.total


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is neither all nor tier=NAME"),
        ("tier=", "'tier=' is neither all nor tier=NAME"),
        ("all fast", "'fast' is not rate=SIZE"),
        ("all rate=0", "a rate of 0 never ends"),
    ],
)
def test_nonsense_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        ScrubRequest.parse(text)


async def test_an_unknown_tier_is_refused(tiered: Tiered) -> None:
    with pytest.raises(InvalidArgument, match="no tier 'x'"):
        tiered.device.scrubber.ask(ScrubRequest.parse("tier=x"))


class Mirrored:
    """A worker whose tier is a mirror of two, and both halves."""

    def __init__(self, memory: SharedMemory) -> None:
        self.halves = FakeTier(EXTENTS, "a"), FakeTier(EXTENTS, "b")
        self.mirror = MirroredTier("both", self.halves)
        self.worker = Tiered(memory, None)
        self.worker.device.add_tier(self.mirror)

    def spoil(self, half: int, page: int) -> None:
        spoil(self.worker, self.halves[half], page)


@pytest.fixture
def mirrored(make_memory: Callable[[Geometry], SharedMemory]) -> Mirrored:
    return Mirrored(make_memory(TIERED))


async def test_a_bad_copy_is_written_anew_from_the_good_one(
    mirrored: Mirrored, autojump_clock: MockClock
) -> None:
    worker = mirrored.worker
    far = await worker.move_out()
    mirrored.spoil(0, far[3])
    mirrored.spoil(1, far[-1])
    assert worker.segment_of(far[3]) != worker.segment_of(far[-1])
    request = await scrub(worker)
    assert (request.bad, request.repaired) == (0, 2)
    assert mirrored.halves[0].extents == mirrored.halves[1].extents
    assert (await scrub(worker)).repaired == 0
    await worker.check()


async def test_a_page_that_is_bad_in_both_is_named_and_not_written_over(
    mirrored: Mirrored, autojump_clock: MockClock
) -> None:
    worker = mirrored.worker
    far = await worker.move_out()
    for half in (0, 1):
        mirrored.spoil(half, far[3])
    mirrored.spoil(0, far[4])
    assert worker.segment_of(far[3]) == worker.segment_of(far[4])
    request = await scrub(worker)
    assert [line.split(":")[0] for line in request.told] == [f"page {far[3]}"]
    assert request.repaired == 0
    assert await worker.read(far[4]) == worker.expected[far[4]], "from the other copy"


async def test_a_wrong_copy_is_read_from_the_other_one(
    mirrored: Mirrored, autojump_clock: MockClock
) -> None:
    worker = mirrored.worker
    far = await worker.move_out()
    mirrored.spoil(0, far[3])
    mirrored.spoil(1, far[5])
    for page in (far[3], far[5]):
        assert await worker.read(page) == worker.expected[page]
    assert worker.cache.reader.counters.checksum_errors == 0


async def test_a_tier_that_is_removed_before_its_turn_ends_the_request_alone(
    moved: Moved, autojump_clock: MockClock
) -> None:
    await moved.prepare()
    device = moved.worker.device
    gone = ScrubRequest.parse("tier=second")
    device.scrubber.ask(gone)
    device.remove_tier("second")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.scrubber.run)
        await trio.sleep(1)
        assert gone.done == gone.total
        other = ScrubRequest.parse("all")
        device.scrubber.ask(other)
        await trio.sleep(2000)
        nursery.cancel_scope.cancel()
    assert other.done == other.total
