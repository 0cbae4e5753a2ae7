"""What no page needs does not leave memory for a tier that others can read."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.reclaim.eraser import Eraser
from fuseswap.reclaim.relocation import Outcome
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import is_object
from fuseswap.units import SEGMENT_BYTES, PageNumber, SegmentId
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.moving_segments import Moved
from tests.support.tiered_devices import Tiered, extent_of

COUNT = 200  # pages of a segment
MARK = b"of a page that was freed"


def marked(seed: int) -> bytes:
    """A page that does not compress, with a mark in it."""
    return MARK + pages.incompressible(seed)[len(MARK) :]


def sealed(worker: Tiered, stream: Stream = Stream.INCOMPRESSIBLE) -> SegmentId:
    """The open segment of a stream, sealed and out of line."""
    head = worker.log.heads[stream]
    segment = head.segment
    worker.log.seal(head)
    assert worker.log.eviction_queue.remove(segment)
    return segment


def fill(worker: Tiered) -> SegmentId:
    """Every second page has a mark, and is freed."""
    for page in range(COUNT):
        worker.store(page, marked(page) if page % 2 else pages.incompressible(page))
    return sealed(worker)


async def move(worker: Tiered, segment: SegmentId) -> bytes:
    """What the tier has of it then."""
    entry = next(iter(worker.device.tiers))
    ref = worker.log.table.ref(segment)
    assert await worker.device.relocation.relocate(ref, entry.take()) is Outcome.MOVED
    assert isinstance(entry.tier, FakeTier)
    return bytes(entry.tier.extents[extent_of(worker.log, segment)])


def free_the_marked(worker: Tiered) -> None:
    for page in range(1, COUNT, 2):
        worker.discard(page)


async def test_dead_objects_are_zeros(tiered: Tiered) -> None:
    segment = fill(tiered)
    free_the_marked(tiered)
    stored = await move(tiered, segment)
    assert MARK not in stored
    assert stored.count(0) > SEGMENT_BYTES // 3
    await tiered.check()


async def test_nor_is_there_what_the_frame_had_before(tiered: Tiered) -> None:
    for page in range(250):
        tiered.store(page, marked(page))
    tiered.discard(0, 250)  # its frame is kept for the next
    frames = tiered.log.frames.held
    tiered.store(0, pages.incompressible(0))
    assert tiered.log.frames.held == frames
    stored = await move(tiered, sealed(tiered))
    assert MARK not in stored
    await tiered.check()


async def test_an_encrypted_tier_gets_it_as_it_is(tiered: Tiered, tier: FakeTier) -> None:
    tier.is_readable = False
    segment = fill(tiered)
    free_the_marked(tiered)
    assert MARK in await move(tiered, segment)
    await tiered.check()


async def test_from_one_tier_to_another_too(moved: Moved) -> None:
    worker = moved.worker
    segment = fill(worker)
    assert MARK in await move(worker, segment)
    free_the_marked(worker)
    _, second = worker.device.tiers
    ref = worker.log.table.ref(segment)
    assert await worker.device.relocation.relocate(ref, second.take()) is Outcome.MOVED
    assert MARK not in moved.second.extents[extent_of(worker.log, segment)]
    await worker.check()


async def test_an_object_whose_first_page_has_gone_stays(tiered: Tiered) -> None:
    """The directory does not know the other one: the slot table does."""
    tiered.cache.dedup.set_switch("on")
    for page in range(COUNT):
        tiered.store(page, marked(page))
    for page in range(0, COUNT, 4):
        tiered.store(1000 + page, marked(page))
    tiered.discard(0, COUNT)
    segment = sealed(tiered)
    assert tiered.log.table.is_marked(segment, Mark.SHARED)
    stored = await move(tiered, segment)
    assert stored.count(MARK) == COUNT // 4
    await tiered.check()


async def test_a_wrong_owner_record_costs_no_page(tiered: Tiered) -> None:
    segment = fill(tiered)
    free_the_marked(tiered)
    base, bound = tiered.log.table.bases[segment], tiered.log.table.bounds_of(segment)[1]
    arena = tiered.device.state.arena.buffer
    for at in range(bound, SEGMENT_BYTES, 8):  # of every second object
        arena[base + at] ^= 0x40
    assert MARK not in await move(tiered, segment)
    await tiered.check()


@pytest.mark.parametrize("shared", [False, True])
async def test_pages_that_die_meanwhile_cost_no_other(
    tiered: Tiered, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """At each turn that others get one more is freed, or stored again elsewhere."""
    segment = fill_small(tiered)
    if shared:
        tiered.log.table.mark(segment, Mark.SHARED)
    turns = 0

    async def checkpoint() -> None:
        nonlocal turns
        turns += 1
        tiered.discard(turns)
        tiered.store(turns + 500, pages.incompressible(turns))

    monkeypatch.setattr("fuseswap.reclaim.eraser.trio.lowlevel.checkpoint", checkpoint)
    eraser = Eraser(tiered.cache.slots, tiered.log)
    frame = tiered.log.table.location_of(segment)
    assert isinstance(frame, int)
    await eraser.erase(segment, frame, lambda: True)
    monkeypatch.undo()
    assert turns > 2
    await tiered.check()


def fill_small(worker: Tiered) -> SegmentId:
    """Thousands of objects, so that it takes many slices."""
    for page in range(3000):
        worker.store(page, pages.filled(pages.FITS_NOT + page))
    segment = worker.segment_of(0)
    assert is_object(worker.cache.slots.get(PageNumber(2999)))
    return sealed(worker, Stream.STORE) if segment else segment


@pytest.mark.parametrize("turn", [1, 4, 12, 16])
async def test_a_frame_that_is_anothers_by_now_is_not_touched(tiered: Tiered, turn: int) -> None:
    segment = fill_small(tiered)
    frame = tiered.log.table.location_of(segment)
    assert isinstance(frame, int)
    with tiered.log.frame_view(frame) as view:
        view[SEGMENT_BYTES // 2 : SEGMENT_BYTES // 2 + 8] = b"anothers"
    asked = 0
    before = b""

    def is_there() -> bool:
        nonlocal asked, before
        asked += 1
        if asked == turn:
            with tiered.log.frame_view(frame) as view:
                before = bytes(view)
        return asked < turn

    await Eraser(tiered.cache.slots, tiered.log).erase(segment, frame, is_there)
    with tiered.log.frame_view(frame) as view:
        assert bytes(view) == before
    assert asked >= turn


async def test_one_that_dies_while_it_is_erased_is_not_written(
    tiered: Tiered, tier: FakeTier, nursery: trio.Nursery
) -> None:
    segment = fill_small(tiered)
    entry = next(iter(tiered.device.tiers))
    ref = tiered.log.table.ref(segment)
    outcomes: list[Outcome] = []

    async def relocate() -> None:
        outcomes.append(await tiered.device.relocation.relocate(ref, entry.take()))

    nursery.start_soon(relocate)
    await trio.lowlevel.checkpoint()
    tiered.discard(0, 3000)
    await wait_all_tasks_blocked()
    assert outcomes == [Outcome.GONE]
    assert (tier.written, entry.extents.in_use) == ([], 0)
    await tiered.check()
